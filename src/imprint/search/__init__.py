"""The search for memory configs: the space, studies that ask and tell, the objective, and who is searched for."""
