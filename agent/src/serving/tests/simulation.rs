//! A simulated engine with continuous batching on one GPU, after the model in docs/energy.md: what the join may see, and
//! the truth that it may not.

/// What a prompt's token weighs in the truth: the convention that the join uses too.
const TRUE_PROMPT_WEIGHT: f64 = 0.15;

const IDLE_WATTS: f64 = 120.0;
const STEP_TOKENS: u64 = 2048;
const MAX_BATCH: usize = 256;

/// Numbers that are the same every time.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Between 0 and 1, neither of them.
    pub fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * self.unit().ln()
    }

    fn lognormal(&mut self, mu: f64, sigma: f64) -> f64 {
        let normal = (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos();
        (mu + sigma * normal).exp()
    }
}

/// A request and what became of it; times in seconds.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub arrival: f64,
    pub prompt: u64,
    pub cached: u64,
    pub output: u64,
    /// When each output token was written.
    pub tokens: Vec<f64>,
    pub joules: f64,
    read: u64,
}

/// A run.
pub struct Run {
    pub requests: Vec<Request>,
    /// Power in watts from a time on.
    pub power: Vec<(f64, f64)>,
    pub end: f64,
}

impl Run {
    /// Energy until a time, joules.
    pub fn joules(&self, until: f64) -> f64 {
        let ends = self.power.iter().skip(1).map(|(at, _)| *at).chain([f64::MAX]);
        self.power
            .iter()
            .zip(ends)
            .take_while(|((at, _), _)| *at < until)
            .map(|((at, watts), end)| watts * (end.min(until) - at))
            .sum()
    }
}

/// Serves `rate` requests a second for so many seconds.
pub fn run(seed: u64, rate: f64, seconds: f64) -> Run {
    let mut random = Random::new(seed);
    let mut requests = Vec::new();
    let mut at = 2.0;
    while at < seconds {
        at += random.exponential(1.0 / rate);
        let prompt = random.lognormal(6.2, 0.9).clamp(16.0, 8000.0) as u64;
        let output = random.lognormal(5.2, 0.7).clamp(4.0, 2000.0) as u64;
        let cached = if random.unit() < 0.3 { (prompt as f64 * (0.5 + 0.45 * random.unit())) as u64 } else { 0 };
        requests.push(Request { arrival: at, prompt, cached, output, ..Request::default() });
    }
    let mut power = vec![(0.0, IDLE_WATTS)];
    let (mut now, mut next) = (0.0, 0);
    let mut running: Vec<usize> = Vec::new();
    while next < requests.len() || !running.is_empty() {
        while next < requests.len() && requests[next].arrival <= now && running.len() < MAX_BATCH {
            running.push(next);
            next += 1;
        }
        if running.is_empty() {
            power.push((now, IDLE_WATTS));
            now = requests[next].arrival;
            continue;
        }
        let mut budget = STEP_TOKENS;
        let mut work: Vec<(usize, u64, bool)> = Vec::new();
        let mut context = 0;
        for &one in &running {
            let request = &requests[one];
            if request.read + request.cached >= request.prompt {
                work.push((one, 1, true));
                budget = budget.saturating_sub(1);
            }
        }
        for &one in &running {
            let request = &requests[one];
            let missing = request.prompt.saturating_sub(request.cached + request.read).min(budget);
            if missing > 0 {
                work.push((one, missing, false));
                budget -= missing;
            }
        }
        for &(one, ..) in &work {
            let request = &requests[one];
            context += request.cached + request.read + request.tokens.len() as u64;
        }
        let tokens: u64 = work.iter().map(|(_, tokens, _)| tokens).sum();
        let memory = 5e-3 + context as f64 * 131_072.0 / 3e12;
        let compute = 0.036e-3 * tokens as f64;
        let step = 1.5e-3 + memory.max(compute) + 0.3 * memory.min(compute);
        let watts = (150.0 + 330.0 * (compute / step).min(1.0) + 230.0 * (memory / step).min(1.0)).min(700.0);
        power.push((now, watts));
        now += step;
        let weight = |tokens: u64, decode: bool| tokens as f64 * if decode { 1.0 } else { TRUE_PROMPT_WEIGHT };
        let whole: f64 = work.iter().map(|&(_, tokens, decode)| weight(tokens, decode)).sum();
        for (one, tokens, decode) in work {
            let request = &mut requests[one];
            request.joules += watts * step * weight(tokens, decode) / whole;
            if decode {
                request.tokens.push(now);
            } else {
                request.read += tokens;
                if request.read + request.cached >= request.prompt {
                    request.tokens.push(now);
                }
            }
        }
        running.retain(|&one| (requests[one].tokens.len() as u64) < requests[one].output);
    }
    power.push((now, IDLE_WATTS));
    Run { requests, power, end: now + 1.0 }
}
