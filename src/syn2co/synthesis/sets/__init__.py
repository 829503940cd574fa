"""Sets of synthetic images: job, plan, manifest, shards. Reads sets and never writes one."""
