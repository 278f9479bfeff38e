//! A run: declares what it needs, lets producers and consumers go, looks at them once a second, and tidies up.

use super::Failure;
use super::consumer::Consumer;
use super::meter::{Meter, Sample};
use super::plan::Plan;
use super::producer::Producer;
use super::report::{self, Report, Screen};
use super::setup::Setup;
use super::stomp;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

const SECOND: Duration = Duration::from_secs(1);

/// How often queues are asked whether they are empty yet, when all is published.
const LOOK: Duration = Duration::from_millis(50);

/// After this many of them without a delivery, and with the queues empty, nothing is on its way to a consumer any more.
const QUIET_LOOKS: u32 = 3;

/// The same where nobody says whether the queues are empty.
const LONG_QUIET_LOOKS: u32 = 20;

/// A shorter rest at the end of a run is no sample: its rates would be chance.
const REST_S: f64 = 0.2;

/// The wall clock, read once and then counted on, so that latencies don't jump with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    started: Instant,
    started_us: u64,
}

impl Clock {
    fn start() -> Clock {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Clock { started: Instant::now(), started_us: since_epoch.as_micros() as u64 }
    }

    /// Microseconds since the epoch.
    pub(super) fn now_us(&self) -> u64 {
        self.started_us + self.started.elapsed().as_micros() as u64
    }
}

/// Carries out a plan, and reports the result.
pub(super) fn carry_out(plan: &Plan) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let no_threads = |error| Failure::Output { what: "to the system's threads".to_owned(), error };
    // Now it can still be said, before the time is spent.
    if let Some(path) = &plan.chart {
        let opened = std::fs::OpenOptions::new().create(true).append(true).open(path);
        opened.map_err(|error| Failure::Output { what: path.display().to_string(), error })?;
    }
    let (report, failure) = runtime.map_err(no_threads)?.block_on(measure(plan))?;
    report::tell(plan, &report)?;
    failure.map_or(Ok(()), Err)
}

/// What was measured, and what ended it too early, if something did.
type Measured = (Report, Option<Failure>);

async fn measure(plan: &Plan) -> Result<Measured, Failure> {
    let mut setup = Setup::open(plan).await?;
    let done = load(plan, &mut setup).await;
    // What happened before is the more important news.
    let tidied = setup.close(plan).await;
    let (report, failure) = done?;
    Ok((report, failure.or(tidied.err())))
}

/// The producers and consumers that are at work.
struct Workers {
    tasks: JoinSet<Result<(), Failure>>,
    meters: Vec<Arc<Mutex<Meter>>>,
    stop: watch::Sender<bool>,
}

impl Workers {
    /// Connects all, and lets them go when all are connected.
    async fn start(plan: &Plan, setup: &mut Setup, clock: Clock) -> Result<Workers, Failure> {
        let mut workers =
            Workers { tasks: JoinSet::new(), meters: Vec::new(), stop: watch::Sender::new(false) };
        if let Some(address) = &plan.stomp {
            workers.start_over_stomp(plan, address, setup, clock).await?;
            return Ok(workers);
        }
        let mut producers = Vec::new();
        for number in 0..plan.producers {
            producers.push(Producer::open(plan, number, workers.meter()).await?);
        }
        for number in 0..plan.consumers {
            let consumer = Consumer::open(plan, number, workers.meter()).await?;
            workers.tasks.spawn(consumer.run(clock, workers.stop.subscribe()));
        }
        for producer in producers {
            workers.tasks.spawn(producer.run(clock, workers.stop.subscribe()));
        }
        Ok(workers)
    }

    async fn start_over_stomp(
        &mut self,
        plan: &Plan,
        address: &str,
        setup: &mut Setup,
        clock: Clock,
    ) -> Result<(), Failure> {
        let mut producers = Vec::new();
        for number in 0..plan.producers {
            producers.push(stomp::Producer::open(plan, address, number, self.meter()).await?);
        }
        for number in 0..plan.consumers {
            let consumer = stomp::Consumer::open(plan, address, number, self.meter(), clock).await?;
            self.tasks.spawn(consumer.run(clock, self.stop.subscribe()));
        }
        if plan.consumers > 0 {
            setup.hand_over().await?;
        }
        for producer in producers {
            self.tasks.spawn(producer.run(clock, self.stop.subscribe()));
        }
        Ok(())
    }

    fn meter(&mut self) -> Arc<Mutex<Meter>> {
        let meter = Arc::new(Mutex::new(Meter::default()));
        self.meters.push(Arc::clone(&meter));
        meter
    }

    /// What was counted since this was last asked.
    fn take(&self) -> Meter {
        let mut whole = Meter::default();
        self.meters.iter().for_each(|meter| meter.lock().drain_into(&mut whole));
        whole
    }

    /// When the first of them ends: an error, or that it has published all it should.
    async fn first_end(&mut self) -> Result<(), Failure> {
        match self.tasks.join_next().await {
            Some(Ok(ended)) => ended,
            Some(Err(error)) => Err(Failure::Lost(format!("a task of this program failed: {error}"))),
            None => std::future::pending().await,
        }
    }

    /// Stops all connections, and waits until they have ended.
    async fn end(&mut self) -> Result<(), Failure> {
        self.stop.send_replace(true);
        while !self.tasks.is_empty() {
            self.first_end().await?;
        }
        Ok(())
    }
}

/// What was counted since the start.
struct Series {
    started: Instant,
    started_us: u64,
    total: Meter,
    samples: Vec<Sample>,
    seen_until_s: f64,
}

impl Series {
    fn start(clock: Clock) -> Series {
        Series {
            started: Instant::now(),
            started_us: clock.now_us(),
            total: Meter::default(),
            samples: Vec::new(),
            seen_until_s: 0.0,
        }
    }

    /// Takes what was counted up to now, or up to `until_s`. Says why publishers are blocked, if they are.
    fn add(&mut self, mut counted: Meter, until_s: Option<f64>) -> Option<String> {
        let until_s = until_s.unwrap_or_else(|| self.started.elapsed().as_secs_f64()).max(self.seen_until_s);
        let sample = Sample::of(&counted, self.seen_until_s, until_s);
        if sample.seconds >= REST_S || self.samples.is_empty() {
            self.samples.push(sample);
        }
        self.seen_until_s = until_s;
        let blocked = counted.blocked.take();
        counted.drain_into(&mut self.total);
        blocked
    }

    /// When something was last counted, in seconds since the start.
    fn last_s(&self, counted: &Meter) -> f64 {
        let last_us = self.total.last_us.max(counted.last_us);
        last_us.saturating_sub(self.started_us) as f64 / 1e6
    }
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// All that was to be published went through.
    Done,
    /// The time was over, or Ctrl-C was pressed.
    Stopped,
}

async fn load(plan: &Plan, setup: &mut Setup) -> Result<Measured, Failure> {
    let clock = Clock::start();
    let mut screen = Screen::of(plan, setup.product())?;
    let mut workers = Workers::start(plan, setup, clock).await?;
    let mut series = Series::start(clock);
    let watched = watch_over(plan, setup, &mut workers, &mut series, &mut screen).await;
    let counted = workers.take();
    let until_s = matches!(watched, Ok(End::Done)).then(|| series.last_s(&counted));
    series.add(counted, until_s);
    let failure = match watched {
        Ok(_) => workers.end().await.err(),
        Err(unsaid @ Failure::Output { .. }) => return Err(unsaid),
        Err(failure) => Some(failure),
    };
    let report = Report {
        product: setup.product().to_owned(),
        seconds: series.seen_until_s,
        whole: Sample::of(&series.total, 0.0, series.seen_until_s),
        samples: series.samples,
    };
    Ok((report, failure))
}

async fn watch_over(
    plan: &Plan,
    setup: &mut Setup,
    workers: &mut Workers,
    series: &mut Series,
    screen: &mut Screen,
) -> Result<End, Failure> {
    let mut ticks = interval_at(series.started + SECOND, SECOND);
    let mut looks = interval_at(series.started + LOOK, LOOK);
    // Those that were due while messages were published would all come at once.
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let deadline = plan.time.map(|time| series.started + time);
    let mut publishing = plan.producers;
    let (mut received_before, mut quiet) = (None, 0);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                let blocked = series.add(workers.take(), None);
                if let Some(sample) = series.samples.last() {
                    screen.progress(sample, blocked.as_deref())?;
                }
            }
            () = sleep_until(deadline.unwrap_or(series.started)), if deadline.is_some() => return Ok(End::Stopped),
            _ = tokio::signal::ctrl_c() => return Ok(End::Stopped),
            ended = workers.first_end() => {
                ended?;
                publishing -= 1;
                if publishing == 0 && plan.consumers == 0 {
                    return Ok(End::Done);
                }
            }
            _ = looks.tick(), if publishing == 0 && plan.count.is_some() => {
                let received = Some(received(workers, series));
                quiet = if received_before == received { quiet + 1 } else { 0 };
                if quiet >= QUIET_LOOKS && (plan.streams || is_through(setup, plan, quiet).await?) {
                    return Ok(End::Done);
                }
                received_before = received;
            }
        }
    }
}

/// Whether consumers have all, when that many looks have brought nothing.
async fn is_through(setup: &mut Setup, plan: &Plan, quiet: u32) -> Result<bool, Failure> {
    Ok(setup.are_empty(plan).await?.unwrap_or(quiet >= LONG_QUIET_LOOKS))
}

fn received(workers: &Workers, series: &Series) -> u64 {
    let since: u64 = workers.meters.iter().map(|meter| meter.lock().counts.received).sum();
    series.total.counts.received + since
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(published: u64, last_us: u64) -> Meter {
        let mut meter = Meter::default();
        meter.counts.published = published;
        meter.last_us = last_us;
        meter
    }

    #[tokio::test(start_paused = true)]
    async fn samples_follow_each_other_and_a_short_rest_is_none() {
        let mut series = Series::start(Clock::start());
        let started_us = series.started_us;
        tokio::time::advance(SECOND).await;
        assert_eq!(series.add(meter(10, started_us + 900_000), None), None);
        let rest = meter(5, started_us + 1_100_000);
        let last_s = series.last_s(&rest);
        series.add(rest, Some(last_s));
        assert_eq!(series.samples.len(), 1);
        assert_eq!((series.samples[0].at_s, series.samples[0].rate(10)), (1.0, 10.0));
        assert_eq!((series.total.counts.published, series.seen_until_s), (15, 1.1));
    }
}
