"""What is to be run: trials and studies, and the engines that there are."""
