-- Changes the counts of one or more requests in one step, each request's all or none. Redis' own clock decides which window
-- it is, so that hosts whose clocks differ agree. A count is a hash {e = end of its window, n = how many}; it goes away by
-- itself soon after.
--
-- KEYS: a key for each bucket, request by request
-- ARGV: for each request 1 to take, -1 to give back, 0 to look, and how many buckets it has; then for each of them its limit,
--       the seconds of its window, and 1 if windows begin on multiples of those seconds, 0 if with what is counted first
-- Gives the time in seconds; then for each request the number of its first bucket that was full (0 for none), and for each
-- bucket how many have been counted and the end of its window.
local now = tonumber(redis.call('TIME')[1])
local answer = {now}
local key, arg = 0, 0
while arg < #ARGV do
  local change, buckets = tonumber(ARGV[arg + 1]), tonumber(ARGV[arg + 2])
  arg = arg + 2
  local full = 0
  local used, ends, fresh = {}, {}, {}
  for i = 1, buckets do
    local limit, secs, dot = tonumber(ARGV[arg + 1]), tonumber(ARGV[arg + 2]), ARGV[arg + 3] == '1'
    arg = arg + 3
    local kept = redis.call('HMGET', KEYS[key + i], 'e', 'n')
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
  answer[#answer + 1] = full
  for i = 1, buckets do
    local n = used[i]
    if full == 0 then
      n = math.max(0, n + change)
    end
    if n ~= used[i] then
      if fresh[i] then
        redis.call('HSET', KEYS[key + i], 'e', ends[i], 'n', n)
        redis.call('EXPIREAT', KEYS[key + i], ends[i] + 60)
      else
        redis.call('HSET', KEYS[key + i], 'n', n)
      end
    end
    answer[#answer + 1] = n
    answer[#answer + 1] = ends[i]
  end
  key = key + buckets
end
return answer
