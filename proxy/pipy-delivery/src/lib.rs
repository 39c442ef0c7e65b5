//! How a proxy gets its certificate and its configuration.

#![forbid(unsafe_code)]
