"""Pictures of what a network attends to: LAM over its layers, CSAM over the photo, and what a patch depends on."""
