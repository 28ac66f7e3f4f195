-- Reads one of many paths each time, every time another.
-- wrk … -- <file of paths, each with an API key after a blank>

local threads = 0

function setup(thread)
  thread:set("place", threads)
  threads = threads + 1
end

function init(arguments)
  requests = {}
  for line in io.lines(arguments[1]) do
    local path, key = line:match("^(%S+) ?(%S*)$")
    requests[#requests + 1] = wrk.format("GET", path, { ["Authorization"] = "Bearer " .. key })
  end
  at = place * 7919
end

function request()
  at = at + 1
  return requests[at % #requests + 1]
end

function done(summary, latency)
  local failed = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  print(string.format('{"answers": %d, "failed": %d, "micros": %d, "p50_us": %d, "p99_us": %d}',
    summary.requests, failed, summary.duration, latency:percentile(50), latency:percentile(99)))
end
