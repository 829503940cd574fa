"""What a set of synthetic images is: job, plan, manifest, shards. Reads sets and never writes one."""
