//! A settings file to start from: every setting with its default and what it is for.

/// The text of a commented `axs.toml`.
pub const TEMPLATE: &str = include_str!("template.toml");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::core::config::{
        Settings,
        load::{Origin, Sources, load},
    };

    #[test]
    fn the_template_names_every_setting_with_its_default() {
        let text: String = TEMPLATE
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(rest) if rest.contains(" = ") => format!("{rest}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("axs.toml");
        std::fs::write(&path, text).expect("written");
        let sources = Sources {
            file: Some(path),
            ..Sources::default()
        };
        let loaded = load(&sources).expect("the template loads");
        let missing: BTreeSet<_> = loaded
            .shown()
            .into_iter()
            .filter(|shown| shown.origin == Origin::Default)
            .map(|shown| shown.key)
            .collect();
        assert_eq!(
            missing,
            BTreeSet::new(),
            "settings that the template leaves out"
        );

        let mut settings = loaded.settings;
        // These have no default to show, or one that depends on the command.
        settings.cluster.shards = None;
        settings.admin.listen = None;
        settings.postgres.url = None;
        settings.kafka.brokers = None;
        settings.kafka.properties.clear();
        settings.redis.url = None;
        assert_eq!(settings, Settings::default());
    }

    #[test]
    fn the_template_itself_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("axs.toml");
        std::fs::write(&path, TEMPLATE).expect("written");
        let sources = Sources {
            file: Some(path),
            ..Sources::default()
        };
        assert_eq!(load(&sources).expect("loads").settings, Settings::default());
    }
}
