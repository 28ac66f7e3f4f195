-- Changes one or more counts, all of them or none, in one step. Redis' own clock decides which window it is, so that hosts
-- whose clocks differ agree. A count is a hash {e = end of its window, n = how many}; it goes away by itself soon after.
--
-- KEYS: a key for each bucket
-- ARGV: 1 to take, -1 to give back, 0 to look; then for each bucket its limit, the seconds of its window, and 1 if windows
--       begin on multiples of those seconds, 0 if with what is counted first
-- Gives the time in seconds, the number of the first bucket that was full (0 for none), then for each bucket how many have
-- been counted and the end of its window.
local now = tonumber(redis.call('TIME')[1])
local change = tonumber(ARGV[1])
local full = 0
local used, ends, fresh = {}, {}, {}
for i, key in ipairs(KEYS) do
  local limit, secs, dot = tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i]), ARGV[3 * i + 1] == '1'
  local kept = redis.call('HMGET', key, 'e', 'n')
  local e, n = tonumber(kept[1] or ''), tonumber(kept[2] or '')
  if not e or not n or now >= e then
    e = dot and (now - now % secs + secs) or (now + secs)
    n = 0
    fresh[i] = true
  end
  used[i], ends[i] = n, e
  if change == 1 and full == 0 and n >= limit then
    full = i
  end
end
local answer = {now, full}
for i, key in ipairs(KEYS) do
  local n = used[i]
  if full == 0 then
    n = math.max(0, n + change)
  end
  if n ~= used[i] then
    redis.call('HSET', key, 'e', ends[i], 'n', n)
    if fresh[i] then
      redis.call('EXPIREAT', key, ends[i] + 60)
    end
  end
  answer[#answer + 1] = n
  answer[#answer + 1] = ends[i]
end
return answer
