//! From a body to the input of the model, on a compute thread: in a process apart where there is one, within the memory budget in either case.

use crate::error::Error;
use crate::fetch::Body;
use crate::flow::{Delivery, Envelope, Pool, Reason, Rejection, Stage};
use crate::preprocess::{self, Header, Limits, Preprocessor};
use crate::sandbox::{self, Failure, Helper};
use crate::worker::compute::{FileFacts, Ready};

/// One that waits to be decoded, and its header if that was read before memory turned out to be short.
pub(super) struct Waiting {
    pub(super) body: Envelope<Body>,
    pub(super) header: Option<Header>,
}

/// What came of one.
pub(super) enum Decoded {
    Ready(Box<Envelope<Ready>>),
    Ended(Box<Delivery>),
    /// It has to wait until memory comes back.
    NoMemory(Box<Waiting>),
    /// Nothing can be decoded any more. The error is to be told before what it was to be done with is dropped.
    Failed(Error, Box<Envelope<Body>>),
}

/// One thread's means of decoding.
pub(super) struct Decoding<'a> {
    limits: &'a Limits,
    memory: &'a Pool,
    preprocessor: Preprocessor,
    apart: Option<sandbox::Decoder>,
}

impl<'a> Decoding<'a> {
    /// Decodes in a helper, else on the thread itself.
    pub(super) fn new(limits: &'a Limits, memory: &'a Pool, helper: Option<&Helper>) -> Self {
        let apart = helper.map(|helper| sandbox::Decoder::new(helper.clone(), limits));
        Self { limits, memory, preprocessor: Preprocessor::new(limits.preprocess.clone()), apart }
    }

    pub(super) fn run(&mut self, waiting: Waiting) -> Decoded {
        let Waiting { body, header } = waiting;
        let bytes = body.value.bytes.clone();
        // A helper has a copy of the file.
        let copy = if self.apart.is_some() { bytes.len() } else { 0 };
        let header = match header {
            Some(header) => header,
            None => {
                let Some(_copy) = self.memory.try_reserve(body.priority, copy) else {
                    return Decoded::NoMemory(Box::new(Waiting { body, header }));
                };
                match self.probe(&bytes) {
                    Ok(header) => header,
                    Err(failure) => return ended(body, failure),
                }
            }
        };
        let needed = copy.saturating_add(header.decode_bytes);
        if needed > self.memory.capacity() {
            let detail = format!(
                "decoding {} x {} pixels of {} needs {} MiB, the memory budget leaves {} MiB for decoding; raise `memory`",
                header.width,
                header.height,
                header.format,
                needed >> 20,
                self.memory.capacity() >> 20
            );
            return ended(body, Failure::Rejected(Rejection::new(Stage::Decode, Reason::TooManyPixels, detail)));
        }
        // All or nothing: two that each held a part would wait for each other.
        let Some(mut memory) = self.memory.try_reserve(body.priority, needed) else {
            self.apart.as_mut().into_iter().for_each(sandbox::Decoder::forget);
            return Decoded::NoMemory(Box::new(Waiting { body, header: Some(header) }));
        };
        let pixels = match &mut self.apart {
            Some(decoder) => decoder.pixels(&bytes),
            None => preprocess::decode(&bytes, &header, self.limits)
                .and_then(|image| preprocess::crop(&mut self.preprocessor, self.limits, &image))
                .map_err(Failure::Rejected),
        };
        let tensor = match pixels {
            Ok(pixels) => self.preprocessor.normalised(&pixels),
            Err(failure) => return ended(body, failure),
        };
        let (body, envelope) = body.split();
        let file = FileFacts {
            location: body.location,
            etag: body.etag,
            version: body.version,
            bytes: bytes.len() as u64,
            format: header.format,
            width: header.width,
            height: header.height,
            sha256: hex(&bytes),
        };
        drop((body.bytes, bytes, body.memory));
        memory.shrink(tensor.len() * size_of::<f32>());
        let mut ready = envelope.map(|()| Ready { tensor, file });
        ready.memory = memory;
        Decoded::Ready(Box::new(ready))
    }

    fn probe(&mut self, bytes: &[u8]) -> Result<Header, Failure> {
        match &mut self.apart {
            Some(decoder) => decoder.probe(bytes),
            None => preprocess::probe(bytes, self.limits).map_err(Failure::Rejected),
        }
    }
}

fn ended(body: Envelope<Body>, failure: Failure) -> Decoded {
    match failure {
        Failure::Rejected(rejection) => Decoded::Ended(Box::new(body.reject(rejection))),
        Failure::NoHelper(error) => Decoded::Failed(error, Box::new(body)),
    }
}

fn hex(bytes: &[u8]) -> String {
    use sha2::Digest;
    use std::fmt::Write;
    sha2::Sha256::digest(bytes).iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
