"""luthier for language models: tools over the Model Context Protocol."""
