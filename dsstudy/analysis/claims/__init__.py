"""The paper's claims, judged by computation."""
