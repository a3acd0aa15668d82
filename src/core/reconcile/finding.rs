//! What differs, and where. No I/O.

use crate::core::{
    assets::Assets,
    command::amount,
    engine::Balance,
    types::{AccountId, AssetId, CommandId, Money, Position, ShardId},
};

/// What does not agree. The names are API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A balance row and the entries of the journal.
    Balance,
    /// An account row and what the journal says of the account.
    Account,
    /// An account row and its route.
    Route,
    /// A version that is not the one behind the version before.
    Version,
    /// An entry does not follow from the one before.
    Entry,
    /// An entry names another position as its balance's last one.
    Previous,
    /// Deltas of a transfer that do not sum to zero.
    Transfer,
    /// Results of the shard that are missing, or out of order.
    Results,
    /// A part of the journal that contradicts itself.
    Part,
    /// A mark of a balance's history and the entry that it is of.
    Mark,
    /// An outcome and the accepted command.
    Command,
    /// The applied set and the outcomes.
    Applied,
    /// A dead letter that parks no accepted command.
    Parked,
    /// What there is of an asset and what entered and left.
    Total,
    /// The shard's hash and that of its balances and accounts.
    StateHash,
    /// Redis and PostgreSQL.
    Redis,
    /// The log and PostgreSQL.
    Log,
}

impl Kind {
    /// As tables, files and documents name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Balance => "BALANCE",
            Self::Account => "ACCOUNT",
            Self::Route => "ROUTE",
            Self::Version => "VERSION",
            Self::Entry => "ENTRY",
            Self::Previous => "PREVIOUS",
            Self::Transfer => "TRANSFER",
            Self::Results => "RESULTS",
            Self::Part => "PART",
            Self::Mark => "MARK",
            Self::Command => "COMMAND",
            Self::Applied => "APPLIED",
            Self::Parked => "PARKED",
            Self::Total => "TOTAL",
            Self::StateHash => "STATE_HASH",
            Self::Redis => "REDIS",
            Self::Log => "LOG",
        }
    }

    /// Whether it is damage of the journal: what the balances are made of. It is never repaired.
    pub fn is_of_journal(self) -> bool {
        matches!(
            self,
            Self::Version
                | Self::Entry
                | Self::Previous
                | Self::Transfer
                | Self::Results
                | Self::Part
                | Self::Command
                | Self::Applied
        )
    }
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What does not agree.
    pub kind: Kind,
    /// Whose shard.
    pub shard: ShardId,
    /// Of one account.
    pub account: Option<AccountId>,
    /// Of one asset.
    pub asset: Option<AssetId>,
    /// Of one entry.
    pub version: Option<u64>,
    /// Of one place in the log.
    pub position: Option<Position>,
    /// Of one command.
    pub command: Option<CommandId>,
    /// What is there.
    pub stored: String,
    /// What should be.
    pub expected: String,
}

impl Finding {
    /// One without a place in the shard.
    pub fn new(
        kind: Kind,
        shard: ShardId,
        stored: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            shard,
            account: None,
            asset: None,
            version: None,
            position: None,
            command: None,
            stored: stored.into(),
            expected: expected.into(),
        }
    }

    /// Of an account.
    #[must_use]
    pub fn account(mut self, account: u64) -> Self {
        self.account = Some(AccountId(account));
        self
    }

    /// Of a balance.
    #[must_use]
    pub fn balance(mut self, account: u64, asset: u32) -> Self {
        self.account = Some(AccountId(account));
        self.asset = Some(AssetId(asset));
        self
    }

    /// At a version.
    #[must_use]
    pub fn version(mut self, version: u64) -> Self {
        self.version = Some(version);
        self
    }

    /// At a position.
    #[must_use]
    pub fn position(mut self, position: i64) -> Self {
        self.position = (position >= 0).then_some(Position(position));
        self
    }

    /// Of a command.
    #[must_use]
    pub fn command(mut self, command: CommandId) -> Self {
        self.command = Some(command);
        self
    }
}

/// An amount as people write it, in its asset's scale; in minor units where nobody knows the asset.
pub fn amount_of(assets: &Assets, asset: u32, minor_units: i128) -> String {
    match (assets.by_id(AssetId(asset)), Money::new(minor_units)) {
        (Some(asset), Some(money)) => amount::format(money, asset.scale),
        _ => format!("{minor_units} minor units"),
    }
}

/// Both amounts of a balance.
pub fn amounts_of(assets: &Assets, asset: u32, available: i128, frozen: i128) -> String {
    format!(
        "available {} frozen {}",
        amount_of(assets, asset, available),
        amount_of(assets, asset, frozen)
    )
}

/// All of a balance, as one line.
pub fn balance_of(assets: &Assets, balance: &Balance) -> String {
    format!(
        "{} version {} position {}",
        amounts_of(
            assets,
            balance.asset.0,
            balance.available.minor_units(),
            balance.frozen.minor_units()
        ),
        balance.version,
        balance.last_position
    )
}
