//! What a valid command becomes, and what its hash is made of.

use super::*;

#[test]
fn a_command_is_resolved() {
    let mut message = credit();
    message.reference = "order-7".into();
    message.changes[0].fallback = Some(Fallback {
        asset: "XBT".into(),
        available_delta: "-0.5".into(),
        frozen_delta: "0".into(),
    });
    message.changes[0].condition = Some(Condition {
        version: Some(0),
        min_available: Some("-0".into()),
    });
    message.changes.push(own(1002));
    let command = parsed(&message).expect("valid");
    assert_eq!((command.id, command.accepted_at), (None, Timestamp(0)));
    assert_eq!(command.reference, "order-7");
    assert_eq!(command.accounts(), [AccountId(1001), AccountId(1002)]);
    let first = &command.changes[0];
    assert_eq!(first.account, AccountId(1001));
    assert_eq!(first.primary.asset, AssetId(1));
    assert_eq!(
        first.primary.available_delta,
        Money::from(1_000_000_000_000_000_000)
    );
    let fallback = first.fallback.expect("it was sent");
    assert_eq!(fallback.asset, AssetId(2));
    assert_eq!(fallback.available_delta, Money::from(-50_000_000));
    assert_eq!(first.if_version, Some(0));
    assert_eq!(first.if_min_available, Some(Money::ZERO));
    assert!(hash::verify_hash(&command));
}

#[test]
fn the_hash_is_of_what_is_meant() {
    let hash = |edit: Edit| {
        let mut message = credit();
        edit(&mut message);
        parsed(&message).expect("valid").content_hash
    };
    let plain = hash(|_| ());
    assert_eq!(
        plain,
        hash(|c| c.changes[0].available_delta = "1.000".into())
    );
    assert_eq!(plain, hash(|c| c.changes[0].frozen_delta = "-0".into()));
    assert_eq!(plain, hash(|c| c.changes[0].account_id = 1001));
    assert_eq!(
        plain,
        hash(|c| c.created_at = Some(Timestamp(7).to_proto()))
    );
    assert_eq!(
        plain,
        hash(|c| c.changes[0].condition = Some(Condition::default()))
    );
    let edits: [Edit; 7] = [
        |c| c.changes[0].available_delta = "1.1".into(),
        |c| c.changes[0].account_id = 1002,
        |c| c.changes[0].asset = "XBT".into(),
        |c| c.source = "bank".into(),
        |c| c.idempotency_key = "yek".into(),
        |c| c.reference = "r".into(),
        |c| {
            c.changes[0].condition = Some(Condition {
                version: Some(0),
                min_available: None,
            });
        },
    ];
    for (index, edit) in edits.into_iter().enumerate() {
        assert_ne!(plain, hash(edit), "edit {index}");
    }
}
