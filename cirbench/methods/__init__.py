"""The interface of a method, and everything that finds, checks and scaffolds one."""
