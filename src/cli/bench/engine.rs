//! `lakelens bench engine`: networks beside what the cores can do at most, and beside stock tract, all measured by turns in one run.

mod text;

use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use lakelens_engine::kernels::Isa;
use lakelens_engine::kernels::affinity::{cores, pin};
use lakelens_engine::kernels::peak::{Arithmetic, measure};
use serde::Serialize;

use super::super::{Common, print};
use super::peers::{Peers, Way};
use crate::config::Precision;
use crate::model::bench::{LayerTime, Loading, Network, Runner};
use crate::model::init_resnet50;
use crate::{Context, Error, Result};

/// What to measure.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  \
    lakelens bench engine\n  \
    lakelens bench engine --model models/resnet50 --precision f32,bf16 --batch 1,8 --layers")]
pub struct Args {
    /// A model's folder or ONNX file, any number of them; a seeded ResNet-50 where none is given.
    #[arg(long = "model", value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// Arithmetic.
    #[arg(long, value_delimiter = ',', default_value = "f32", value_parser = precision)]
    precision: Vec<Precision>,
    /// Images of one call.
    #[arg(long, value_delimiter = ',', default_value = "1,8", value_parser = clap::value_parser!(u16).range(1..=1024))]
    batch: Vec<u16>,
    /// Threads, each pinned to a core and with images of its own; 1 and all cores where not given.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Vec<u16>,
    /// The time of each layer, too.
    #[arg(long)]
    layers: bool,
    /// Seconds for each network, shared by all that is measured of it.
    #[arg(long, default_value_t = 8.0, value_parser = crate::cli::seconds)]
    seconds: f64,
    /// Leave stock tract out.
    #[arg(long)]
    no_tract: bool,
    /// onnxruntime and OpenVINO on the same graphs, an image a call, by turns with ours; needs python3 (or what LAKELENS_PYTHON names) with `pip install
    /// onnxruntime openvino numpy`. Graphs with QuantizeLinear run in int8, others in f32 and, if asked for, bf16.
    #[arg(long)]
    peers: bool,
}

fn precision(name: &str) -> std::result::Result<Precision, String> {
    let all = [Precision::F32, Precision::Bf16, Precision::Int8];
    all.into_iter().find(|p| p.name() == name).ok_or_else(|| "one of f32, bf16, int8".to_owned())
}

/// All that is printed, and the JSON of it.
#[derive(Serialize)]
struct Figures {
    schema: &'static str,
    /// Instructions that the kernels use.
    isa: String,
    cores: usize,
    peaks: Vec<Peak>,
    networks: Vec<NetworkFigures>,
}

/// What cores can do at most.
#[derive(Serialize, Clone, Copy)]
struct Peak {
    arithmetic: &'static str,
    threads: usize,
    /// Billions of operations a second of all threads together, two for each multiply-add; null where the processor lacks the instructions.
    gflops: Option<f64>,
}

#[derive(Serialize)]
struct NetworkFigures {
    model: String,
    gflop_per_image: f64,
    file_bytes: u64,
    /// The precision that loading, nodes and bytes are of: the first that was asked for.
    loaded_in: &'static str,
    /// Seconds, in parts and together.
    loading: Loading,
    loading_total: f64,
    /// Nodes on the engine and nodes left to tract.
    nodes_on_engine: usize,
    nodes_on_tract: usize,
    /// Weights that the engine packed, also as a multiple of the file; its activations an image. 0 where the network runs on tract alone.
    weight_bytes: usize,
    weights_over_file: f64,
    arena_bytes: usize,
    runs: Vec<Run>,
    peers: Vec<Peer>,
    layers: Vec<Layer>,
}

#[derive(Serialize)]
struct Run {
    precision: &'static str,
    batch: usize,
    threads: usize,
    images_per_s: f64,
    gflops: f64,
    /// Of the peak of as many threads at this precision, measured by turns with it.
    share_of_peak: Option<f64>,
    /// Stock tract in f32 with as many threads, an image each at a time, and ours over it.
    tract_images_per_s: Option<f64>,
    over_tract: Option<f64>,
    /// Of an image a call: over the best peer with as many threads at this precision.
    over_best_peer: Option<f64>,
    /// Over the same on one thread, both of whole turns (`images_per_s` of one thread is its best call), and the peak over one thread's.
    scaling: Option<f64>,
    peak_scaling: Option<f64>,
    /// Over the same with the smallest batch, both of whole turns.
    over_smallest_batch: Option<f64>,
}

/// Another runtime, an image a call.
#[derive(Serialize)]
struct Peer {
    #[serde(flatten)]
    way: Way,
    threads: usize,
    images_per_s: f64,
    gflops: f64,
    share_of_peak: Option<f64>,
}

#[derive(Serialize)]
struct Layer {
    #[serde(flatten)]
    time: LayerTime,
    gflops: f64,
    share_of_peak: Option<f64>,
}

/// How long one turn lasts.
const TURN: f64 = 0.25;

pub fn run(args: &Args, common: &Common) -> Result<()> {
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    let mut models = args.models.clone();
    if models.is_empty() {
        let seeded = folder.path().join("resnet50");
        init_resnet50(0, &seeded, 1000)?;
        models.push(seeded);
    }
    let mut threads: Vec<usize> = args.threads.iter().map(|&t| t.into()).collect();
    if threads.is_empty() {
        threads = vec![1, cores().len().max(1)];
    }
    threads.dedup();
    let all = threads.iter().copied().chain([1]).collect::<std::collections::BTreeSet<_>>();
    let arithmetics = [(Arithmetic::F32, "f32"), (Arithmetic::Bf16, "bf16"), (Arithmetic::Int8, "int8")];
    let mut peaks: Vec<Peak> = arithmetics
        .iter()
        .flat_map(|&(arithmetic, name)| {
            all.iter().map(move |&threads| Peak { arithmetic: name, threads, gflops: peak(arithmetic, threads, 10) })
        })
        .collect();
    let networks = models.iter().map(|m| network(m, args, &threads, &mut peaks)).collect::<Result<_>>()?;
    let figures = Figures {
        schema: "lakelens.bench.engine.v1",
        isa: format!("{:?}", Isa::best()).to_lowercase(),
        cores: cores().len(),
        peaks,
        networks,
    };
    if common.json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&figures).map_err(Error::failed)?));
    }
    print(&text::text(&figures))
}

/// Runs `work` on `threads` threads at once, each pinned to a core of its own as far as there are so many; begins when all are ready.
fn together<T: Send>(threads: usize, work: impl Fn() -> T + Sync) -> Vec<T> {
    let (ready, cores) = (Barrier::new(threads), cores());
    std::thread::scope(|scope| {
        let (ready, cores, work) = (&ready, &cores, &work);
        let start = |nth: usize| {
            scope.spawn(move || {
                if let Some(core) = cores.get(nth % cores.len().max(1)) {
                    pin(*core);
                }
                ready.wait();
                work()
            })
        };
        let running: Vec<_> = (0..threads).map(start).collect();
        running.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    })
}

fn peak(arithmetic: Arithmetic, threads: usize, runs: usize) -> Option<f64> {
    together(threads, || measure(arithmetic, runs)).into_iter().sum::<Option<f64>>().map(|sum| sum / 1e9)
}

/// One way to run the network, and the best that was seen of it: seconds an image.
struct Contender<'a> {
    runner: &'a Runner,
    threads: usize,
    best: f64,
    /// Of a turn's mean. Ratios between threads and between batches are of these: the best of many short calls is more lucky than the best of few long ones.
    steady: f64,
    /// Images that a thread's turn has at least.
    images: usize,
}

impl Contender<'_> {
    /// As many calls on each thread as fit a turn.
    fn turn(&mut self) -> Result<()> {
        let per_call = self.best * (self.runner.batch * self.threads) as f64;
        let least = self.images.div_ceil(self.runner.batch);
        let calls = if per_call.is_finite() { ((TURN / per_call) as usize).clamp(least, 10_000) } else { least };
        let spent = together(self.threads, || -> tract_onnx::prelude::TractResult<(f64, f64)> {
            let mut turn = self.runner.turn()?;
            turn.run()?;
            let start = Instant::now();
            let mut best = f64::INFINITY;
            for _ in 0..calls {
                let call = Instant::now();
                turn.run()?;
                best = best.min(call.elapsed().as_secs_f64());
            }
            let mean = start.elapsed().as_secs_f64() / calls as f64;
            // One thread's best call is its speed when left alone; threads that wait for each other must be taken together.
            Ok(if self.threads == 1 { (best, mean) } else { (mean, mean) })
        });
        let slowest = spent.into_iter().try_fold((0.0, 0.0), |most: (f64, f64), one| one.map(|one| (most.0.max(one.0), most.1.max(one.1))));
        let (best, mean) = slowest.map_err(|e| Error::failed(format_args!("the network fails: {e:#}")))?;
        let images = (self.runner.batch * self.threads) as f64;
        (self.best, self.steady) = (self.best.min(best / images), self.steady.min(mean / images));
        Ok(())
    }
}

fn network(path: &Path, args: &Args, threads: &[usize], peaks: &mut [Peak]) -> Result<NetworkFigures> {
    let loaded_in = args.precision.first().copied().unwrap_or_default();
    let (network, first, loading) = Network::load(path, loaded_in)?;
    let mut runners: Vec<(Precision, usize, Runner)> = Vec::new();
    for &precision in &args.precision {
        for batch in args.batch.iter().map(|&b| usize::from(b)) {
            match network.engine(precision, batch)? {
                Some(runner) => runners.push((precision, batch, runner)),
                None => tracing::warn!("{}: the graph does not take {batch} images in a call", network.id),
            }
        }
    }
    let stock = if args.no_tract { None } else { Some(network.stock()?) };
    let batches = || runners.iter().map(|(_, batch, _)| *batch);
    let (smallest, images) = (batches().min().unwrap_or(1), batches().max().unwrap_or(1));
    let contender = |runner, threads, images| Contender { runner, threads, best: f64::INFINITY, steady: f64::INFINITY, images };
    let mut ours: Vec<Contender<'_>> = runners.iter().flat_map(|(_, _, r)| threads.iter().map(move |&t| contender(r, t, images))).collect();
    let mut tract: Vec<Contender<'_>> = stock.iter().flat_map(|r| threads.iter().map(move |&t| contender(r, t, 1))).collect();
    let mut peers = Vec::new();
    for &threads in threads.iter().filter(|_| args.peers) {
        let precisions: Vec<&str> = args.precision.iter().map(|p| p.name()).collect();
        peers.push(Peers::start(network.graph(), network.side(), threads, &precisions, TURN)?);
    }
    let until = Instant::now() + Duration::from_secs_f64(args.seconds.clamp(0.0, 86_400.0));
    let mut rounds = 0;
    while rounds < 3 || Instant::now() < until {
        for one in tract.iter_mut().chain(&mut ours) {
            one.turn()?;
        }
        peers.iter_mut().try_for_each(Peers::turn)?;
        for best in peaks.iter_mut() {
            let arithmetic = match best.arithmetic {
                "f32" => Arithmetic::F32,
                "bf16" => Arithmetic::Bf16,
                _ => Arithmetic::Int8,
            };
            best.gflops = best.gflops.map(|known| peak(arithmetic, best.threads, 1).map_or(known, |now| known.max(now)));
        }
        rounds += 1;
    }
    let peak_of = |name: &str, threads: usize| peaks.iter().find(|p| p.arithmetic == name && p.threads == threads).and_then(|p| p.gflops);
    let gflop = network.flops as f64 / 1e9;
    let combinations = runners.iter().flat_map(|(precision, batch, _)| threads.iter().map(move |&t| (precision.name(), *batch, t)));
    let combinations: Vec<_> = combinations.zip(&ours).collect();
    let rate = |c: &Contender<'_>| 1.0 / c.best;
    let ways = peers.iter().flat_map(|p| p.ways.iter().map(|(way, best)| (p.threads, way, 1.0 / best)));
    let peer = |(threads, way, images_per_s): (usize, &Way, f64)| Peer {
        way: way.clone(),
        threads,
        images_per_s,
        gflops: images_per_s * gflop,
        share_of_peak: peak_of(&way.precision, threads).map(|p| images_per_s * gflop / p),
    };
    let others: Vec<Peer> = ways.map(peer).collect();
    let best_peer = |precision: &str, threads: usize| {
        let like = others.iter().filter(|p| p.way.precision == precision && p.threads == threads);
        like.map(|p| p.images_per_s).max_by(f64::total_cmp)
    };
    let runs = combinations.iter().map(|&((precision, batch, threads), contender)| {
        let like = |batch: usize, threads: usize| {
            let like = combinations.iter().find(|((p, b, t), _)| *p == precision && *b == batch && *t == threads);
            like.map(|(_, c)| c.steady / contender.steady)
        };
        let tract = tract.iter().find(|c| c.threads == threads).map(rate);
        let peak = peak_of(precision, threads);
        let images_per_s = rate(contender);
        Run {
            precision,
            batch,
            threads,
            images_per_s,
            gflops: images_per_s * gflop,
            share_of_peak: peak.map(|p| images_per_s * gflop / p),
            tract_images_per_s: tract,
            over_tract: tract.map(|t| images_per_s / t),
            over_best_peer: best_peer(precision, threads).filter(|_| batch == 1).map(|p| images_per_s / p),
            scaling: like(batch, 1),
            peak_scaling: peak.zip(peak_of(precision, 1)).map(|(all, one)| all / one),
            over_smallest_batch: like(smallest, threads),
        }
    });
    let runs = runs.collect();
    let mut layers = Vec::new();
    if args.layers
        && let Some((precision, _, runner)) = runners.first()
    {
        let measured = together(1, || runner.layers(30)).remove(0);
        let times = measured.map_err(|e| Error::failed(format_args!("the network fails: {e:#}")))?;
        let peak = peak_of(precision.name(), 1);
        layers.extend(times.into_iter().map(|time| {
            let gflops = time.gflop / time.us * 1e6;
            Layer { gflops, share_of_peak: peak.filter(|_| time.gflop > 0.0).map(|p| gflops / p), time }
        }));
    }
    let [nodes_on_engine, nodes_on_tract] = network.nodes_of(&first);
    let report = first.report.unwrap_or_default();
    Ok(NetworkFigures {
        model: network.id.clone(),
        gflop_per_image: gflop,
        file_bytes: network.file_bytes,
        loaded_in: loaded_in.name(),
        loading,
        loading_total: loading.total(),
        nodes_on_engine,
        nodes_on_tract,
        weight_bytes: report.weight_bytes(),
        weights_over_file: report.weight_bytes() as f64 / network.file_bytes.max(1) as f64,
        arena_bytes: report.arena_bytes(),
        runs,
        peers: others,
        layers,
    })
}
