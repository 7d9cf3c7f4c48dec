// No page of this book has a formula. This file stands where Sphinx would load MathJax from the
// network for every page that was a notebook.
