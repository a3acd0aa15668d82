//! The registry of assets, as one process last read it. It only ever grows.

use std::collections::BTreeMap;

use crate::core::types::AssetId;

/// Largest scale of an asset.
pub const SCALE_MAX: u8 = 18;
/// Longest asset code.
pub const CODE_BYTES_MAX: usize = 16;

/// One asset: its scale (digits behind the point) never changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asset {
    /// Numeric id, from 1.
    pub id: AssetId,
    /// `[A-Z0-9._-]{1,16}`.
    pub code: String,
    /// 0 to 18.
    pub scale: u8,
}

/// All assets known, by code and by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assets {
    by_id: BTreeMap<AssetId, Asset>,
    by_code: BTreeMap<String, AssetId>,
}

impl Assets {
    /// The asset with this code.
    pub fn by_code(&self, code: &str) -> Option<&Asset> {
        self.by_id.get(self.by_code.get(code)?)
    }

    /// The asset with this id.
    pub fn by_id(&self, id: AssetId) -> Option<&Asset> {
        self.by_id.get(&id)
    }

    /// In the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Asset> {
        self.by_id.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// None at all.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

impl FromIterator<Asset> for Assets {
    fn from_iter<I: IntoIterator<Item = Asset>>(assets: I) -> Self {
        let mut all = Self::default();
        for asset in assets {
            all.by_code.insert(asset.code.clone(), asset.id);
            all.by_id.insert(asset.id, asset);
        }
        all
    }
}

/// Whether `code` may name an asset.
pub fn is_valid_code(code: &str) -> bool {
    (1..=CODE_BYTES_MAX).contains(&code.len())
        && code.bytes().all(|byte| {
            byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-')
        })
}
