-- Changes the counts of one or more requests in one step, each request's all or none. Redis' own clock decides which window
-- it is, so that hosts whose clocks differ agree. A count is a hash {e = end of its window, n = how many}; it goes away by
-- itself soon after.
--
-- KEYS: a key for each bucket, request by request
-- ARGV: which part of what is left may be taken at once; then for each request 1 to take, -1 to give back, 0 to look, how
--       many at most, and how many buckets it has; then for each of them its limit, the seconds of its window, and 1 if
--       windows begin on multiples of those seconds, 0 if with what is counted first
-- Gives the time in seconds; then for each request the number of its first bucket that was full (0 for none), how many
-- were taken, and for each bucket how many have been counted and the end of its window. Where there is room for one, one
-- is taken; more only as far as they are that part of what is left.
local now = tonumber(redis.call('TIME')[1])
local part = tonumber(ARGV[1])
local answer = {now}
local key, arg = 0, 1
while arg < #ARGV do
  local change, many, buckets = tonumber(ARGV[arg + 1]), tonumber(ARGV[arg + 2]), tonumber(ARGV[arg + 3])
  arg = arg + 3
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
    if change == 1 then
      if full == 0 and n >= limit then
        full = i
      end
      many = math.max(1, math.min(many, math.floor((limit - n) / part)))
    end
  end
  if full ~= 0 then
    many = 0
  end
  answer[#answer + 1] = full
  answer[#answer + 1] = change == 1 and many or 0
  for i = 1, buckets do
    local n = math.max(0, used[i] + change * many)
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
