//! AckService: part of the contract, not of this version.

use tonic::{Request, Response, Status};

use super::status::Failure;
use crate::core::proto::{AckRequest, AckResponse, ack_service_server};

/// Answers UNIMPLEMENTED.
pub struct AckService;

#[tonic::async_trait]
impl ack_service_server::AckService for AckService {
    async fn ack(&self, _: Request<AckRequest>) -> Result<Response<AckResponse>, Status> {
        let text = "acknowledgements come with a later version: no command with `ack` is accepted";
        Err(Failure::Unsupported(text.into()).into())
    }
}
