//! The gRPC API through a real client on a loopback port, over the embedded store and log.

mod api;
mod cancel;
mod limits;
mod read;
mod stream;
mod submit;
mod watch;
mod writer;
