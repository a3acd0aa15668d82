//! Flags that override settings, shared by the commands that use them.

/// (setting, flag, value), as `config::load` takes them.
pub type Settings = Vec<(&'static str, &'static str, String)>;

/// Where the gRPC API is.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Server {
    /// Address of the API [default: client.server, http://127.0.0.1:7250]
    #[arg(long, value_name = "URL", value_hint = clap::ValueHint::Url)]
    pub server: Option<String>,
}

impl Server {
    pub fn settings(&self) -> Settings {
        given("client.server", "--server", self.server.as_ref()).collect()
    }
}

/// `value`, if the flag was given.
pub fn given(
    key: &'static str,
    flag: &'static str,
    value: Option<&impl ToString>,
) -> impl Iterator<Item = (&'static str, &'static str, String)> {
    value
        .map(|value| (key, flag, value.to_string()))
        .into_iter()
}
