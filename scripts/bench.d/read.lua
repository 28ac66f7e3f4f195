-- Reads one of many paths each time, every time another.
-- wrk … -- <file of paths, each with an API key after a blank>

dofile((debug.getinfo(1, "S").source:match("^@(.*/)") or "") .. "load.lua")

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
