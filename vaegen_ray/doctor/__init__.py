"""`vaegen doctor`: facts about a machine and a cluster, and checks of them."""
