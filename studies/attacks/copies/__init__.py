"""What a stolen copy of the network is worth: thieves, the copies they build, and the yardstick."""
