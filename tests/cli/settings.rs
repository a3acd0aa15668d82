//! Settings: where they come from, and what is said of wrong ones.

use serde_json::Value;

use super::run::Axs;

#[test]
fn settings_say_where_they_come_from() {
    let axs = Axs::new()
        .file(
            "axs.toml",
            "[cluster]\nshards = 2\n[grpc]\nstreams_max = 7\n",
        )
        .file("other.toml", "[cluster]\nshards = 3\n")
        .variable("AXS_GRPC__STREAMS_MAX", "8")
        .variable("AXS_POSTGRES__URL", "postgres://ann:s3cret@db/axs");
    let shown = |arguments: &[&str]| {
        let ran = axs.run(arguments);
        assert_eq!(ran.code, 0, "{}", ran.err);
        ran.is_plain();
        ran.out
    };
    let table = shown(&["config", "show", "--origin"]);
    let row = |table: &str, key: &str| -> Vec<String> {
        let line = table
            .lines()
            .find(|line| line.starts_with(key))
            .expect("a row");
        line.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(
        row(&table, "cluster.shards ")[1..],
        ["2", "file", "`./axs.toml`"]
    );
    let variable = ["8", "environment", "variable", "`AXS_GRPC__STREAMS_MAX`"];
    assert_eq!(row(&table, "grpc.streams_max ")[1..], variable);
    assert_eq!(row(&table, "writer.block_size ")[1..], ["10000", "default"]);
    assert_eq!(row(&table, "postgres.url ")[1], "postgres://ann:***@db/axs");
    let named = shown(&["config", "show", "--config", "other.toml"]);
    assert_eq!(row(&named, "cluster.shards ")[1..], ["3"]);

    let text = shown(&["config", "show", "--origin", "--json"]);
    let document: Value = serde_json::from_str(&text).expect("one document");
    assert_eq!(document["schema"], "axs.config/v1");
    let settings = document["settings"].as_array().expect("a list");
    let shards = settings
        .iter()
        .find(|one| one["key"] == "cluster.shards")
        .expect("it is there");
    assert_eq!(shards["value"], "2");
    assert_eq!(shards["origin"], "file `./axs.toml`");
    assert!(!text.contains("s3cret"));
}

#[test]
fn wrong_settings_are_one_sentence_and_exit_6() {
    let table = [
        (
            "[postgres]\nuri = \"x\"\n",
            "unknown setting `postgres.uri` in file `./axs.toml`; did \
          you mean `postgres.url`?",
        ),
        (
            "[cluster]\nshards = 0\n",
            "setting `cluster.shards` from file `./axs.toml`: 0 is out of \
          range, it must be 1 to 1024",
        ),
        (
            "[cluster]\nshards = \"many\"\n",
            "setting `cluster.shards` from file `./axs.toml`: \
          invalid type: string \"many\", expected u16",
        ),
        (
            "[redis]\nurl = \"redis://:pw@\"\ntimeout = \"fast\"\n",
            "setting `redis.timeout` from \
          file `./axs.toml`: `fast` is no duration such as `500ms` or `2s`",
        ),
        (
            "[cluster\n",
            "the settings file `./axs.toml` is not valid TOML: ",
        ),
    ];
    for (file, sentence) in table {
        let axs = Axs::new().file("axs.toml", file);
        let ran = axs.run(&["config", "check"]);
        assert_eq!((ran.code, ran.out.as_str()), (6, ""), "{file}");
        let first = ran.err.lines().next().expect("a line");
        assert!(first.starts_with(&format!("error: {sentence}")), "{first}");
        let error = axs.run(&["config", "check", "--json"]).json_error();
        assert_eq!(error["code"], "CONFIGURATION");
        assert!(
            error["message"]
                .as_str()
                .is_some_and(|text| text.starts_with(sentence))
        );
    }
    let ran = Axs::new().run(&["config", "check", "--config", "none.toml"]);
    assert_eq!(ran.code, 6);
    assert!(
        ran.err
            .contains("cannot read the settings file `none.toml`"),
        "{}",
        ran.err
    );
    let ran = Axs::new()
        .variable("AXS_NO__SUCH", "1")
        .run(&["submit", "--file", "-"]);
    assert_eq!(ran.code, 6, "any command refuses wrong settings");
}

#[test]
fn the_template_is_a_settings_file() {
    let template = Axs::new().run(&["config", "template"]);
    assert_eq!(template.code, 0);
    let ran = Axs::new()
        .file("axs.toml", template.out)
        .run(&["config", "check"]);
    assert_eq!((ran.code, ran.out.as_str()), (0, "the settings are fine\n"));
}
