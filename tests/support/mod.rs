//! What integration tests share: where the servers are, and names that no other test has.

/// The value of a variable that the tests cannot do without.
pub fn required(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!(
            "`{name}` is not set: run `make test`, or `scripts/stack up` and \
             `eval \"$(scripts/stack env)\"`"
        )
    })
}

/// Different in each call, on each machine.
pub fn unique(prefix: &str) -> String {
    let random = getrandom::u64().expect("the system has random numbers");
    format!("{prefix}-{random:016x}")
}
