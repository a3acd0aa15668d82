//! Sequence blocks and acceptance (`axs_accept`), and the same rows restored from the log.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{
    super::{
        AcceptAnswer, AcceptGroup, AcceptItem, AcceptedGroup, DeadLetterReason, Error,
        SequenceBlock,
    },
    tables::{Block, Tables},
};
use crate::core::{
    canary::{self, Guard},
    clock::micros,
    command::{Command, CommandKind},
    types::{
        AccountId, CommandId, KeyHash, Nonce, Position, SEQUENCE_MAX, Sequence, ShardId, Timestamp,
    },
};

/// What a group will add besides its commands, while its items are looked at.
#[derive(Default)]
struct Staged {
    routes: BTreeMap<AccountId, ShardId>,
    ids: BTreeSet<CommandId>,
    keys: BTreeSet<KeyHash>,
}

impl Tables {
    /// Leases `size` sequence numbers; the same nonce gets the same block again.
    pub fn lease_block(
        &mut self,
        now: Timestamp,
        shard: ShardId,
        nonce: Nonce,
        size: u32,
    ) -> Result<SequenceBlock, Error> {
        assert!(size > 0, "a block has numbers");
        if let Some(block) = self.blocks.get(&nonce.0) {
            return Ok(SequenceBlock {
                nonce,
                shard: block.shard,
                first: block.first,
                last: block.last,
            });
        }
        let row = self.shard_mut(shard)?;
        let (first, last) = (row.sequence_next, row.sequence_next + u64::from(size) - 1);
        if last > SEQUENCE_MAX {
            return Err(Error::Refused(format!(
                "shard {shard} has no sequence numbers left"
            )));
        }
        row.sequence_next = last + 1;
        let (first, last) = (Sequence(first), Sequence(last));
        let block = Block {
            shard,
            first,
            last,
            leased_at: now,
            open: true,
        };
        self.blocks.insert(nonce.0, block);
        Ok(SequenceBlock {
            nonce,
            shard,
            first,
            last,
        })
    }

    /// Closes blocks; unknown and closed ones are passed over.
    pub fn close_blocks(&mut self, nonces: &[Nonce]) {
        for nonce in nonces {
            if let Some(block) = self.blocks.get_mut(&nonce.0) {
                block.open = false;
            }
        }
    }

    /// Closes every open block leased at least `age` ago; how many.
    pub fn close_old_blocks(&mut self, now: Timestamp, age: Duration) -> u64 {
        let before = now.plus_micros(-micros(age));
        let mut closed = 0;
        for block in self.blocks.values_mut() {
            if block.open && block.leased_at <= before {
                block.open = false;
                closed += 1;
            }
        }
        closed
    }

    /// `axs_accept`: nothing is stored when a block is closed or a number in use, nor for an item
    /// that is answered with anything but `Accepted`.
    pub fn accept(&mut self, now: Timestamp, group: &AcceptGroup) -> Result<AcceptedGroup, Error> {
        for (shard, nonce) in &group.blocks {
            let is_open = self.blocks.get(&nonce.0).is_some_and(|block| block.open);
            if !is_open && !canary::is_off(Guard::BlockLock) {
                return Err(Error::BlockClosed(*shard));
            }
        }
        let mut staged = Staged::default();
        let mut answers = Vec::with_capacity(group.items.len());
        for item in &group.items {
            answers.push(self.decide(item, &mut staged)?);
        }
        // From here the group must succeed.
        for (item, answer) in group.items.iter().zip(&answers) {
            if *answer == AcceptAnswer::Accepted {
                let mut command = item.command.clone();
                command.accepted_at = now;
                self.insert(item.key_hash, command);
            }
        }
        Ok(AcceptedGroup {
            accepted_at: now,
            answers,
        })
    }

    /// Without effect on the tables. In the order of the design: key, account, number.
    fn decide(&self, item: &AcceptItem, staged: &mut Staged) -> Result<AcceptAnswer, Error> {
        assert!(
            staged.keys.insert(item.key_hash),
            "a key stands in a group once"
        );
        if let Some(&(id, content)) = self.idempotency.get(&item.key_hash) {
            return Ok(if content == item.command.content_hash {
                AcceptAnswer::Duplicate(id)
            } else {
                AcceptAnswer::Conflict(id)
            });
        }
        let Some(id) = item.command.id else {
            return Ok(AcceptAnswer::KeyUnknown);
        };
        self.shard(id.shard())?;
        let Command {
            source,
            idempotency_key,
            reference,
            ..
        } = &item.command;
        if [source, idempotency_key, reference]
            .iter()
            .any(|text| text.contains('\0'))
        {
            return Err(Error::Refused("a text contains U+0000".into()));
        }
        if item.command.kind == CommandKind::OpenAccount {
            let account = item.command.account;
            let stands = self.routes.get(&account);
            let stands = stands.or_else(|| staged.routes.get(&account)).copied();
            match stands {
                Some(shard) if shard != id.shard() => return Ok(AcceptAnswer::Routed(shard)),
                Some(_) => {}
                None => {
                    staged.routes.insert(account, id.shard());
                }
            }
        }
        if self.commands.contains_key(&id) || !staged.ids.insert(id) {
            return Err(Error::NumberTaken(id));
        }
        Ok(AcceptAnswer::Accepted)
    }

    /// Adds the rows of one accepted command, whose id is set and whose shard exists.
    pub(super) fn insert(&mut self, key: KeyHash, command: Command) {
        let id = command.id.expect("only commands with an id are stored");
        let shard = &mut self.shards[usize::from(id.shard().0)];
        shard.numbers.insert(id.sequence().0);
        self.idempotency.insert(key, (id, command.content_hash));
        if command.kind == CommandKind::OpenAccount {
            self.routes.entry(command.account).or_insert(id.shard());
        }
        self.commands.insert(id, command);
    }

    /// Puts back a command that the log file holds. False: it stands already, and is left as it is.
    pub fn restore_command(&mut self, key: KeyHash, command: Command) -> Result<bool, Error> {
        let id = command.id.expect("a logged command has an id");
        self.restore_number(id.shard(), id.sequence())?;
        if self.commands.contains_key(&id) {
            return Ok(false);
        }
        self.insert(key, command);
        Ok(true)
    }

    /// A number that the log file names, sealed ones included, is never leased again.
    pub fn restore_number(&mut self, shard: ShardId, sequence: Sequence) -> Result<(), Error> {
        let row = self.shard_mut(shard)?;
        row.sequence_next = row.sequence_next.max(sequence.0 + 1);
        Ok(())
    }

    /// A position that the log file says is parked: a leader does not apply it again.
    pub fn restore_parked(
        &mut self,
        shard: ShardId,
        position: Position,
        reason: DeadLetterReason,
    ) -> Result<(), Error> {
        self.shard_mut(shard)?.parked.insert(position, reason);
        Ok(())
    }
}
