//! An object as a seekable file.

use crate::errors::{Failure, Result, invalid};
use kopia_engine::object::ObjectReader;
use kopia_engine::{Error, ErrorKind};
use parking_lot::Mutex;
use pyo3::buffer::PyBuffer;
use pyo3::prelude::*;
use std::io::{Read, Seek, SeekFrom};

#[pyclass(frozen, module = "repository._native")]
pub(crate) struct File {
    reader: Mutex<Option<ObjectReader<'static>>>,
    length: u64,
}

impl File {
    pub(crate) fn new(reader: ObjectReader<'static>) -> Self {
        Self { length: reader.length(), reader: Mutex::new(Some(reader)) }
    }

    fn with<T>(&self, work: impl FnOnce(&mut ObjectReader<'static>) -> std::io::Result<T>) -> Result<T> {
        let mut reader = self.reader.lock();
        let reader = reader.as_mut().ok_or_else(|| invalid("the file is closed"))?;
        work(reader).map_err(engine_error)
    }
}

/// The engine's error inside of an I/O error.
fn engine_error(error: std::io::Error) -> Failure {
    match error.downcast::<Error>() {
        Ok(error) => error.into(),
        Err(error) => Error::new(ErrorKind::InvalidArgument, error.to_string()).into(),
    }
}

#[pymethods]
impl File {
    #[getter]
    fn length(&self) -> u64 {
        self.length
    }

    #[allow(unsafe_code)]
    fn readinto(&self, py: Python<'_>, buffer: PyBuffer<u8>) -> Result<usize> {
        if buffer.readonly() || !buffer.is_c_contiguous() {
            return Err(invalid("a file is read into a writable, contiguous buffer"));
        }
        let (address, length) = (buffer.buf_ptr() as usize, buffer.len_bytes());
        py.detach(|| {
            self.with(|reader| {
                // SAFETY: `buffer` exports `length` writable bytes at `address` and keeps its owner from moving or
                // freeing them until it is dropped, after this. Who writes to them meanwhile from
                // another Python thread sees mixed bytes, as with any `readinto`.
                let bytes = unsafe { std::slice::from_raw_parts_mut(address as *mut u8, length) };
                if bytes.is_empty() { Ok(0) } else { reader.read(bytes) }
            })
        })
    }

    fn seek(&self, offset: i64, whence: u8) -> Result<u64> {
        let position = match whence {
            0 => SeekFrom::Start(u64::try_from(offset).map_err(|_| invalid("seek before the start"))?),
            1 => SeekFrom::Current(offset),
            2 => SeekFrom::End(offset),
            other => return Err(invalid(format!("whence is 0, 1 or 2, not {other}"))),
        };
        self.with(|reader| reader.seek(position))
    }

    fn close(&self) {
        *self.reader.lock() = None;
    }
}
