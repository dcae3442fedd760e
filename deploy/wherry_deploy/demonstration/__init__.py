"""Two sites and a whole deployment on this machine, and a directory copied from one site to the other."""
