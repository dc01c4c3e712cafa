"""The verifiers that come with rlvr: plugins like anybody's, found through the same entry points."""
