-- Takes a worker off the list. Jobs that it has fetched and not begun go back to the queue, or are forgotten.
--
-- KEYS: 1 workers, 2 jobs fetched by this one, 3 what it said of itself, 4 its sign of life, 5 list of queued jobs,
--       6 job data
-- ARGV: 1 name, 2 prefix of a job's state, 3 "back" or "forget"
local fetched = redis.call('SMEMBERS', KEYS[2])
for _, id in ipairs(fetched) do
    if ARGV[3] == 'back' and redis.call('HEXISTS', KEYS[6], id) == 1 then
        redis.call('RPUSH', KEYS[5], id)
    else
        redis.call('HDEL', KEYS[6], id)
        redis.call('DEL', ARGV[2] .. id)
    end
end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
return #fetched
