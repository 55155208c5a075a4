//! peftbench as a library: what the binary, the integration tests and the benches share.
