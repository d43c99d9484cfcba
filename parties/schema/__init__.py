"""The messages of `labctl.v1` as bytes: `session.proto`, and what protoc makes of it."""
