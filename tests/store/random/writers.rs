//! Blocks and acceptance: keys that meet again, numbers in use, closed blocks, routes that stand.

use std::time::Duration;

use axs::core::{
    command::{Command, CommandKind},
    store::{AcceptAnswer, AcceptGroup, AcceptItem},
    types::{CommandId, Sequence},
};

use super::{ACCOUNTS, LONG, World, same};
use crate::ledger::{change, item, open, rehashed};

impl World {
    pub async fn lease_block(&mut self) {
        let known: Vec<_> = self.blocks.iter().map(|&(_, nonce, ..)| nonce).collect();
        let again = self.random.once_in(4);
        let old = self.random.pick(&known).copied().filter(|_| again);
        let nonce = old.unwrap_or_else(|| self.random.nonce());
        let shard = self.random.shard();
        let size = u32::try_from(self.random.below(40) + 1).expect("small");
        self.trace
            .push(format!("lease {size} of {shard}, again: {}", old.is_some()));
        let one = self.one.store.lease_block(shard, nonce, size).await;
        let other = self.other.store.lease_block(shard, nonce, size).await;
        same(&self.trace, "a block", &one, &other);
        if let (Ok(block), None) = (one, old) {
            self.blocks
                .push((block.shard, nonce, block.first.0, block.last.0));
        }
    }

    pub async fn close_blocks(&mut self) {
        let Some(&(shard, nonce, ..)) = self.random.pick(&self.blocks) else {
            return;
        };
        self.trace.push(format!("close a block of {shard}"));
        let one = self.one.store.close_blocks(&[nonce]).await;
        let other = self.other.store.close_blocks(&[nonce]).await;
        same(&self.trace, "closed", &one, &other);
    }

    pub async fn close_old_blocks(&mut self) {
        let age = if self.random.once_in(2) {
            LONG
        } else {
            Duration::ZERO
        };
        self.trace.push(format!("close blocks older than {age:?}"));
        let one = self.one.store.close_old_blocks(age).await;
        let other = self.other.store.close_old_blocks(age).await;
        same(&self.trace, "closed", &one, &other);
    }

    /// Numbers come from the last blocks: the older ones run out or are closed.
    pub async fn accept(&mut self) {
        let mut used = Vec::new();
        let mut items: Vec<AcceptItem> = Vec::new();
        for _ in 0..=self.random.below(5) {
            let command = self.command();
            let mut item = item(command);
            if items.iter().any(|other| other.key_hash == item.key_hash) {
                continue;
            }
            item.command.id = self.number(&mut used);
            items.push(item);
        }
        let blocks = used.iter().map(|&index| {
            let (shard, nonce, ..) = self.blocks[index];
            (shard, nonce)
        });
        let group = AcceptGroup {
            blocks: blocks.collect(),
            items,
        };
        let told = group.items.iter().map(|item| {
            let id = item.command.id.map(|id| (id.shard().0, id.sequence().0));
            format!("{}→{id:?}", item.command.idempotency_key)
        });
        self.trace
            .push(format!("accept {}", told.collect::<Vec<_>>().join(" ")));
        let one = self.one.accept(&group).await;
        let other = self.other.accept(&group).await;
        same(&self.trace, "accepted", &one, &other);
        let answers = match one {
            Ok(answers) => answers,
            Err(error) => return self.failed(&error),
        };
        for (item, answer) in group.items.into_iter().zip(answers) {
            self.answered(match answer {
                AcceptAnswer::Accepted => "accepted",
                AcceptAnswer::Duplicate(_) => "duplicate",
                AcceptAnswer::Conflict(_) => "other content",
                AcceptAnswer::Routed(_) => "routed",
                AcceptAnswer::KeyUnknown => "key unknown",
            });
            if answer == AcceptAnswer::Accepted {
                self.accepted.push(item.command);
            }
        }
    }

    fn command(&mut self) -> Command {
        let account = self.random.below(ACCOUNTS) + 1;
        if self.random.once_in(4) {
            let mut open = open(account);
            open.idempotency_key = format!("open-{account}-{}", self.random.below(2)).into();
            return rehashed(open);
        }
        // A small number of keys, so that they meet again, with other content at times.
        let key = format!("k{}", self.random.below(500));
        let asset = u32::try_from(self.random.below(2)).expect("small") + 1;
        let mut change = change(account, &key, asset, 5, 1);
        change.kind = CommandKind::Change;
        if self.random.once_in(3) {
            change.account = axs::core::types::AccountId(1);
            change.changes[0].account = change.account;
        }
        rehashed(change)
    }

    /// The next number of a block, rarely none, and more rarely one that may be in use.
    fn number(&mut self, used: &mut Vec<usize>) -> Option<CommandId> {
        if self.random.once_in(12) {
            return None;
        }
        let recent = self.blocks.len().saturating_sub(2);
        let span = (self.blocks.len() - recent) as u64;
        let index = recent + usize::try_from(self.random.below(span.max(1))).expect("small");
        let (shard, _, next, last) = self.blocks.get_mut(index)?;
        if *next > *last {
            return None;
        }
        let mut sequence = *next;
        if self.random.once_in(40) && sequence > 1 {
            sequence -= 1;
        } else {
            *next += 1;
        }
        if !used.contains(&index) {
            used.push(index);
        }
        Some(CommandId::new(*shard, Sequence(sequence)))
    }
}
