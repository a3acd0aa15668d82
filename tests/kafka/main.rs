//! What is Kafka's alone: topics that do not fit, records that are gone, other tools' view, an
//! outage. What every log does is in `log.rs`.

#[path = "../support/kafka.rs"]
mod fixture;
mod read;
#[path = "../support/mod.rs"]
mod support;
mod topics;
mod write;

use axs::core::log::Error;
use rdkafka::message::{Headers as _, Message as _, OwnedMessage};

fn header(message: &OwnedMessage, name: &str) -> Option<String> {
    let header = message
        .headers()?
        .iter()
        .find(|header| header.key == name)?;
    Some(String::from_utf8(header.value?.to_vec()).expect("headers are text"))
}

fn refused<T>(answer: Result<T, Error>) -> String {
    match answer {
        Err(Error::Refused(why)) => why,
        Err(error) => panic!("not refused, but: {error}"),
        Ok(_) => panic!("not refused"),
    }
}

fn diverged<T>(answer: Result<T, Error>) -> String {
    match answer {
        Err(Error::Diverged(why)) => why,
        Err(error) => panic!("not diverged, but: {error}"),
        Ok(_) => panic!("not diverged"),
    }
}

fn all_ok(answers: &[Result<(), Error>]) {
    for (index, answer) in answers.iter().enumerate() {
        assert_eq!(answer, &Ok(()), "record {index}");
    }
}
