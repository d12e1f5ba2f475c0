"""Commands: callable dataclasses whose fields are the flags."""
