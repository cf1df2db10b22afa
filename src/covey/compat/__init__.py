"""Programs that were written for others, on covey; see ``covey.compat.distributed``."""
