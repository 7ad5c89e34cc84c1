//! Requests that look at many subjects or sequences. They do it in short steps: what was seen is
//! kept with the request, which is run again in a later turn.

use std::cell::RefCell;

use corelane_storage::index::{FilterSet, LastJob, LastStep, Scan};

use crate::consumer::StartPosition;
use crate::shard::request::search::{Each, Search, SearchStep};
use crate::shard::request::{Request, Wait};
use crate::shard::state::Shard;
use crate::shard::streams::read::Unread;

impl Shard {
    /// The last message that matches one of the filters.
    pub(in crate::shard) fn last_of<F: AsRef<[u8]>>(
        &mut self,
        slot: usize,
        filters: &[F],
        walk: &RefCell<Search>,
    ) -> Result<Option<u64>, Unread> {
        let mut job = match walk.take() {
            Search::Last(job) => job,
            _ => LastJob::new(FilterSet::new(filters)),
        };
        let mut budget = self.options.job_visits;
        loop {
            let wait = match job.step(&mut self.streams[slot].index, &mut budget) {
                LastStep::Done(seq) => return Ok(seq),
                LastStep::Budget => Wait::Turn,
                LastStep::NeedPage(key) => match self.want_page(slot, key) {
                    Ok(loaded) => {
                        loaded.map_err(Unread::Failed)?;
                        continue;
                    }
                    Err(wait) => wait,
                },
            };
            walk.replace(Search::Last(job));
            return Err(Unread::Wait(wait));
        }
    }

    /// The first message at or above `from` that matches.
    pub(in crate::shard) fn next_of(
        &mut self,
        slot: usize,
        filter: &[u8],
        from: u64,
        walk: &RefCell<Search>,
    ) -> Result<Option<u64>, Unread> {
        let (mut filters, mut from) = match walk.take() {
            Search::Next(filters, at) => (filters, at),
            _ => (FilterSet::new([filter]), from),
        };
        let mut budget = self.options.job_visits;
        loop {
            let wait = match self.streams[slot].index.next_matching(&mut filters, from, &mut budget)
            {
                Scan::Found(seq, _) => return Ok(Some(seq)),
                Scan::End => return Ok(None),
                Scan::Budget { resume } => {
                    from = resume;
                    Wait::Turn
                }
                Scan::NeedPage(key) => match self.want_page(slot, key) {
                    Ok(loaded) => {
                        loaded.map_err(Unread::Failed)?;
                        continue;
                    }
                    Err(wait) => wait,
                },
            };
            walk.replace(Search::Next(filters, from));
            return Err(Unread::Wait(wait));
        }
    }

    /// Where a consumer begins that wants the last message of every subject.
    pub(in crate::shard) fn last_of_each(
        &mut self,
        slot: usize,
        filters: &[String],
        r: &Request,
    ) -> Result<StartPosition, Unread> {
        let index = &self.streams[slot].index;
        let mut each = match r.walk.take() {
            Search::Each(each) => each,
            _ => Box::new(Each::new(filters, index)),
        };
        let mut budget = self.options.job_visits;
        let wait = loop {
            match each.step(&mut self.streams[slot].index, &mut budget) {
                SearchStep::All => return Ok(each.position(self.streams[slot].index.last_seq())),
                SearchStep::Budget => break Wait::Turn,
                SearchStep::NeedPage(key) => match self.want_page(slot, key) {
                    Ok(loaded) => loaded.map_err(Unread::Failed)?,
                    Err(wait) => break wait,
                },
            }
        };
        r.walk.replace(Search::Each(each));
        Err(Unread::Wait(wait))
    }
}
