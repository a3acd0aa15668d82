//! AXS, the Account eXecution Service. The library only exposes [`core`] to the binary, tests and
//! benches; it is not a stable API. Start reading at `ARCHITECTURE.md`.

pub mod core;
