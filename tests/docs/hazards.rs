//! The table of hazards in `docs/reliability.md`: each row names tests that exist, or, for the few
//! that need what is not built yet, the later work.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use super::{code, read, root, rows, section, text_of};

/// Every row, by letter: numbers and what follows them.
const HAZARDS: [(&str, &str); 8] = [
    ("A", "1 2 3 3a 4 5 6 7 8 9 10"),
    ("B", "1 2 3 4 5 6 7 8 9 10 11 12"),
    ("C", "1 2 2a 3 4 4a 4b 5 6 7 8 9 10 11 12 13"),
    ("D", "1 2 3 4 5 6 7 8 9 10 11 12"),
    ("E", "1 2 3 4 5 6 7 8 9 10 11"),
    ("F", "1 2 3 4 5 6 7"),
    ("G", "1 2 3 4 5 6 7 8"),
    ("I", "1 2 3 4 5"),
];

/// May name later work.
const LATER: &str = "B11 C9 C10 E5 E6 E7 E8 E9 E10 E11 F4 I3";
/// Of these, what must name a test beside it.
const LATER_IN_PART: &str = "B11 I3";

/// Where the list of hazards stands, if it stands beside the checkout.
const LIST: &str = "../shared/HAZARDS.md";
/// What the cells call the simulation's runs without a guard.
const SIMULATION: &str = "simulation: ";
/// Where they are listed.
const GUARDS: &str = "src/core/canary.rs";

fn ids() -> BTreeSet<String> {
    let of_letter = |(letter, numbers): (&str, &'static str)| {
        let letter = letter.to_owned();
        numbers
            .split(' ')
            .map(move |number| format!("{letter}{number}"))
    };
    HAZARDS.into_iter().flat_map(of_letter).collect()
}

/// Ids of the rows of its sections A to G and I.
fn listed(list: &str) -> BTreeSet<String> {
    let first = rows(list).into_iter().map(|row| row[0].to_owned());
    let is_id = |id: &String| {
        let number = id.strip_prefix(|letter: char| matches!(letter, 'A'..='G' | 'I'));
        number.is_some_and(|number| number.starts_with(|c: char| c.is_ascii_digit()))
    };
    // The goals are numbered with a G too: they stand behind the hazards.
    let hazards = list.split("\n## 2. ").next().map_or(0, str::len);
    let in_hazards = |id: &String| list[..hazards].contains(&format!("| {id} |"));
    first.filter(is_id).filter(in_hazards).collect()
}

/// Names of all tests: functions under a test attribute, and those that a `suite!` runs.
fn tests() -> BTreeSet<String> {
    let sources = text_of("tests", ".rs") + &text_of("src", ".rs");
    let mut names = BTreeSet::new();
    let (mut is_test, mut in_suite) = (false, false);
    for line in sources.lines().map(str::trim) {
        if let Some(suite) = line.strip_prefix("suite!") {
            in_suite = suite.ends_with(['{', '(']);
        } else if in_suite && line.starts_with(['}', ')']) {
            in_suite = false;
        } else if in_suite {
            let name = line.trim_end_matches(',').rsplit("::").next();
            names.extend(name.map(str::to_owned));
        } else if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            is_test = true;
        } else if let Some((_, rest)) = line.split_once("fn ").filter(|_| is_test) {
            names.extend(rest.split('(').next().map(str::to_owned));
            is_test = false;
        }
    }
    names
}

/// What is wrong with a row's last cell.
fn complaint(id: &str, cell: &str, tests: &BTreeSet<String>, guards: &str) -> Option<String> {
    let has = |list: &str| list.split(' ').any(|one| one == id);
    let (mut shown, mut later) = (0, cell.contains("later: "));
    // What stands behind `later:` up to the end of its part is no test.
    let now = cell
        .split("later: ")
        .enumerate()
        .map(|(index, part)| match index {
            0 => part,
            _ => part.split_once(';').map_or("", |(_, rest)| rest),
        });
    for name in now.flat_map(code) {
        if let Some(guard) = name.strip_prefix(SIMULATION) {
            if !guards.contains(&format!(" {guard},")) {
                return Some(format!("{id}: the simulation has no guard {guard}"));
            }
        } else if tests.contains(name) {
            shown += 1;
        } else {
            return Some(format!("{id}: there is no test {name}"));
        }
    }
    if later && !has(LATER) {
        return Some(format!("{id}: may not wait for later work"));
    }
    later &= !has(LATER_IN_PART);
    (shown == 0 && !later).then(|| format!("{id}: no test is named"))
}

#[test]
fn every_hazard_names_a_test() {
    let document = read("docs/reliability.md");
    let found: BTreeMap<String, String> = rows(section(&document, "## Hazards"))
        .into_iter()
        .filter(|row| ids().contains(row[0]))
        .map(|row| (row[0].to_owned(), row[row.len() - 1].to_owned()))
        .collect();
    let (described, known): (BTreeSet<_>, _) = (found.keys().cloned().collect(), ids());
    assert_eq!(described, known, "rows of the table, hazards");
    if let Ok(list) = fs::read_to_string(root().join(LIST)) {
        assert_eq!(listed(&list), known, "rows of {LIST}, hazards");
    }
    let guards = read(GUARDS);
    let tests = tests();
    assert!(tests.len() > 200, "only {} tests were found", tests.len());
    let complaints: Vec<_> = found
        .iter()
        .filter_map(|(id, cell)| complaint(id, cell, &tests, &guards))
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// The check itself: what it must not let through.
#[test]
fn rows_that_show_nothing_are_found() {
    let tests: BTreeSet<String> = ["one_test".to_owned()].into();
    let complaint = |id, cell| complaint(id, cell, &tests, "guards! { Fence, }");
    assert_eq!(complaint("A1", "`one_test`, `simulation: Fence`"), None);
    assert_eq!(complaint("C9", "later: holds"), None);
    assert_eq!(
        complaint("I3", "`one_test`; later: rolls between versions"),
        None
    );
    for (id, cell) in [
        ("A1", ""),
        ("A1", "the fence"),
        ("A1", "`no_such_test`"),
        ("A1", "`one_test`, `no_such_test`"),
        ("A1", "`simulation: Fence`"),
        ("A1", "`one_test`, `simulation: Wall`"),
        ("A1", "later: holds"),
        ("I3", "later: rolls between versions"),
        ("I3", "later: `one_test`"),
    ] {
        assert!(complaint(id, cell).is_some(), "{id}: {cell}");
    }
}
