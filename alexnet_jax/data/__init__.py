"""Images: sources, preparation, the pipeline on the host and the arithmetic on the device."""
