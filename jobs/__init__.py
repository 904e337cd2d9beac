"""The stages of the monthly run, a module each, and the commands around them."""
