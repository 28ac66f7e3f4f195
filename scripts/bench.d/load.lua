-- What every load has in common: a place for each of its threads, and how what happened is printed.
-- A load begins with `dofile` of this file; its `init` finds the number of its thread in `place`.

local threads = 0

function setup(thread)
  thread:set("place", threads)
  threads = threads + 1
end

function done(summary, latency)
  local failed = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  print(string.format('{"answers": %d, "failed": %d, "micros": %d, "p50_us": %d, "p99_us": %d}',
    summary.requests, failed, summary.duration, latency:percentile(50), latency:percentile(99)))
end
