"""luthier turns recordings into instruments: curate, fine-tune, prove, ship, play."""

__version__ = "0.1.0"
