//! What the engine asserts, always on. A broken one is a bug of AXS: the caller catches the panic
//! and parks the command; what a command asserts it asserts before it changes anything, so that the
//! state is as before it. Input never reaches an assertion.
//!
//! | id | what always holds |
//! |---|---|
//! | E1 | a command given to the engine has an id, and it is of the engine's shard |
//! | E2 | positions rise from command to command |
//! | E3 | every account that a command names is known: in memory, or looked for and not found |
//! | E4 | a target is that of the REVERSE it comes with |
//! | E5 | a written balance is not below its floor: 0, and none for a clearing account |
//! | E6 | a command's entries raise the versions of its balances by exactly one each |
//! | E7 | a balance is written over the version it was computed on |
//! | E8 | what is loaded fits: its own account's balances, touched ones, a status |
//! | E9 | index, cells and lists agree: what is removed is there, a balance hangs on its account |
//! | E10 | a number enters the applied set once, and with exactly one outcome or a seal |
//! | E11 | only batches that were taken are reported as flushed |
//! | E12 | what is evicted is flushed |
