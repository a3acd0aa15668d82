//! Random appends, openings, reads and deletions: every log must answer as a list in memory says.
//!
//! `AXS_TEST_LOG_STATEMENTS` is how many of them a run has, `AXS_TEST_LOG_SEED` where it starts.

use std::{collections::BTreeMap, ops::Range};

use axs::core::{
    log::{Error, Log, NewRecord, RECORD_BYTES_MAX, Reader, Record},
    types::{Anchor, Position, ShardId},
};
use bytes::Bytes;

use crate::{
    kafka::Topics,
    logs::{PATIENCE, SHARDS, assert_is, in_file, memory, record},
};

/// Statements of a run when nothing else is said.
const STATEMENTS: u64 = 200;
/// Most records of one append.
const APPEND_MAX: u64 = 12;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// A shard as it should be.
#[derive(Default)]
struct Shard {
    records: Vec<NewRecord>,
    /// Records below are deleted.
    begin: usize,
    /// By generation: the anchors that reading showed.
    anchors: BTreeMap<(u16, usize), Anchor>,
    /// Opened, and where it stands.
    reader: Option<(Reader, u16, usize)>,
}

/// A log and its model.
struct World<'a> {
    log: &'a Log,
    /// Where records can be deleted.
    topics: Option<&'a Topics>,
    random: Random,
    shards: Vec<Shard>,
    /// How often each answer was given.
    answers: BTreeMap<&'static str, u64>,
    trace: Vec<String>,
}

/// What a run must have met, so that it says something.
const ANSWERS: [&str; 7] = [
    "appended",
    "read",
    "refused",
    "right anchor",
    "wrong anchor",
    "beyond the end",
    "at the end",
];

fn number(name: &str, default: u64) -> u64 {
    let set = std::env::var(name).ok();
    set.map_or(default, |text| text.parse().expect("a number"))
}

async fn answers_as_its_model(log: &Log, topics: Option<&Topics>) {
    let mut world = World {
        log,
        topics,
        random: Random(number("AXS_TEST_LOG_SEED", 1)),
        shards: (0..SHARDS).map(|_| Shard::default()).collect(),
        answers: BTreeMap::new(),
        trace: Vec::new(),
    };
    for _ in 0..number("AXS_TEST_LOG_STATEMENTS", STATEMENTS) {
        match world.random.below(10) {
            0..3 => world.append().await,
            3..6 => world.open().await,
            6 => world.delete().await,
            _ => world.read().await,
        }
        world.ends().await;
    }
    println!("{:?}", world.answers);
    let deletions = ["deleted", "before the beginning", "anchor deleted"];
    let deletions = deletions.iter().filter(|_| topics.is_some());
    for answer in ANSWERS.iter().chain(deletions) {
        let met = world.answers.contains_key(answer);
        assert!(met, "never `{answer}` in {:?}", world.answers);
    }
}

impl World<'_> {
    fn answered(&mut self, answer: &'static str) {
        *self.answers.entry(answer).or_default() += 1;
    }

    fn shard(&mut self) -> usize {
        usize::try_from(self.random.below(SHARDS.into())).expect("small")
    }

    /// Of all shards, mixed; some can never be written, alone.
    async fn append(&mut self) {
        let mut sent = Vec::new();
        for _ in 0..self.random.below(APPEND_MAX) {
            let shard = self.shard();
            let mine = sent
                .iter()
                .filter(|new: &&NewRecord| usize::from(new.shard.0) == shard);
            let next = self.shards[shard].records.len() + mine.count();
            let mut new = record(u16::try_from(shard).expect("small"), next as u64);
            match self.random.below(24) {
                0 => new.value = Bytes::from(vec![b'x'; RECORD_BYTES_MAX + 1]),
                1 => new.shard = ShardId(SHARDS + 1),
                _ => {}
            }
            sent.push(new);
        }
        self.trace.push(format!("append {}", sent.len()));
        let answers = self.log.append(sent.clone()).await;
        assert_eq!(answers.len(), sent.len(), "{:?}", self.trace);
        for (new, answer) in sent.into_iter().zip(answers) {
            let fits = new.shard.0 < SHARDS && new.value.len() <= RECORD_BYTES_MAX;
            match answer {
                Ok(()) if fits => {
                    self.shards[usize::from(new.shard.0)].records.push(new);
                    self.answered("appended");
                }
                Err(Error::Refused(_)) if !fits => self.answered("refused"),
                answer => panic!("{answer:?}, fits: {fits}, {:?}", self.trace),
            }
        }
    }

    async fn ends(&mut self) {
        let ends = self.shards.iter().map(|shard| at(0, shard.records.len()));
        let ends: Vec<_> = ends.collect();
        let told = self.log.ends().await.expect("an answer");
        assert_eq!(told, ends, "{:?}", self.trace);
    }

    /// Anywhere, the beyond included; with the anchor of the record before, another one, or none.
    async fn open(&mut self) {
        let index = self.shard();
        let generation = if self.random.below(4) == 0 { 3 } else { 0 };
        let kind = self.random.below(3);
        let (begin, end) = (self.shards[index].begin, self.shards[index].records.len());
        let near_begin = self.random.below(3) == 0;
        let from = match near_begin {
            true => begin.saturating_sub(1) + self.below(3),
            false => self.below(end + 3),
        };
        let before = from.checked_sub(1);
        let shard = &mut self.shards[index];
        // One reader of a shard at a time, as in a process.
        shard.reader = None;
        let known = before.and_then(|before| shard.anchors.get(&(generation, before)).copied());
        let anchor = match kind {
            0 => None,
            1 => known,
            _ => Some(Anchor([7; 16])),
        };
        self.trace.push(format!(
            "open {index} at {generation}:{from} of {begin}..{end}, known {}, anchor {anchor:?}",
            known.is_some()
        ));
        let opened = self
            .log
            .open(ShardId(index as u16), at(generation, from), anchor)
            .await;
        let answer = match (from, anchor) {
            (from, _) if from > end => "beyond the end",
            (from, _) if from < begin => "before the beginning",
            // Nothing is left to compare with.
            (from, Some(_)) if from == begin => "anchor deleted",
            (_, Some(anchor)) if Some(anchor) != known => "wrong anchor",
            (_, Some(_)) => "right anchor",
            (from, None) if from == end => "at the end",
            _ => "inside",
        };
        let refused = ["beyond the end", "before the beginning", "wrong anchor"];
        match (refused.contains(&answer), opened) {
            (true, Err(Error::Diverged(_))) => {}
            (false, Ok(reader)) => {
                self.shards[index].reader = Some((reader, generation, from));
            }
            (_, opened) => panic!("{answer}: {:?}, {:?}", opened.err(), self.trace),
        }
        self.answered(answer);
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.random.below(end as u64)).expect("below a small number")
    }

    /// Some of what is there, to limits.
    async fn read(&mut self) {
        let index = self.shard();
        let (count_max, bytes_max) = (self.below(20) + 1, self.below(600));
        let Some((mut reader, generation, next)) = self.shards[index].reader.take() else {
            return;
        };
        let end = self.shards[index].records.len();
        self.trace.push(format!(
            "read {index} from {next} of {end}, {count_max}, {bytes_max}"
        ));
        let wait = if next < end {
            PATIENCE
        } else {
            std::time::Duration::ZERO
        };
        let found = reader.fetch(count_max, bytes_max, wait).await;
        let found = found.unwrap_or_else(|error| panic!("{error}: {:?}", self.trace));
        assert_eq!(found.is_empty(), next == end, "{:?}", self.trace);
        assert!(found.len() <= count_max, "{:?}", self.trace);
        let bytes: usize = found.iter().map(Record::bytes).sum();
        assert!(bytes <= bytes_max || found.len() <= 1, "{:?}", self.trace);
        let range: Range<usize> = next..next + found.len();
        for (offset, found) in range.clone().zip(&found) {
            assert_eq!(found.position, at(generation, offset), "{:?}", self.trace);
            assert_is(found, &self.shards[index].records[offset]);
            let anchors = &mut self.shards[index].anchors;
            anchors.insert((generation, offset), found.anchor());
            self.answered("read");
        }
        self.shards[index].reader = Some((reader, generation, range.end));
    }

    /// As retention does it.
    async fn delete(&mut self) {
        let index = self.shard();
        let (begin, end) = (self.shards[index].begin, self.shards[index].records.len());
        let below = begin + self.below(end - begin + 1).min(4);
        let Some(topics) = self.topics.filter(|_| below > begin) else {
            return;
        };
        self.trace.push(format!("delete {index} below {below}"));
        self.shards[index].reader = None;
        let offset = i64::try_from(below).expect("small");
        topics.delete_records(ShardId(index as u16), offset).await;
        self.shards[index].begin = below;
        self.answered("deleted");
    }
}

fn at(generation: u16, offset: usize) -> Position {
    Position::new(generation, i64::try_from(offset).expect("small"))
}

#[tokio::test]
async fn the_log_in_memory_answers_as_its_model() {
    answers_as_its_model(&memory(), None).await;
}

#[tokio::test]
async fn the_log_file_answers_as_its_model() {
    let directory = tempfile::tempdir().expect("a directory");
    answers_as_its_model(&in_file(directory.path()), None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_answers_as_the_model_of_the_log() {
    let topics = Topics::create(SHARDS).await;
    let log = Log::Kafka(topics.log().await);
    answers_as_its_model(&log, Some(&topics)).await;
}
