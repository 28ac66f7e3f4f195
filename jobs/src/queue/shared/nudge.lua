-- Queues jobs that nobody has queued yet. Everything or nothing happens in one step, so that no job is queued without its
-- data and no key is marked without its job.
--
-- KEYS: 1 list of queued jobs, 2 set of delayed jobs (nobody fills it; counted for what strangers put there), 3 job data
-- ARGV: 1 jobs that may be queued, 2 milliseconds for which a key counts as nudged, 3 prefix of nudge keys,
--       4 prefix of a job's state, 5 channel, 6 what to say there, then for each job: key, id, data
local room = tonumber(ARGV[1]) - redis.call('LLEN', KEYS[1]) - redis.call('ZCARD', KEYS[2])
local pushed = 0
for i = 7, #ARGV, 3 do
    -- Looked at before the key is marked, so that a nudge which finds no room can come again at once.
    if pushed >= room then
        break
    end
    if redis.call('SET', ARGV[3] .. ARGV[i], '1', 'NX', 'PX', ARGV[2]) then
        local id = ARGV[i + 1]
        redis.call('HSET', KEYS[3], id, ARGV[i + 2])
        redis.call('HSET', ARGV[4] .. id, 'attempts', 0, 'max_attempts', 1, 'status', 'Pending', 'idempotency_key', '')
        redis.call('RPUSH', KEYS[1], id)
        pushed = pushed + 1
    end
end
if pushed > 0 then
    redis.call('PUBLISH', ARGV[5], ARGV[6])
end
return pushed
