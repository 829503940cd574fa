"""The ladder of generators: procedural, fitted, flow, diffusion, or a function of the user's."""
