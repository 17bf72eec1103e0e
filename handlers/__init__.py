"""The handlers: one module per noun, one function per operationId."""
