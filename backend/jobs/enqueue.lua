-- Stores new jobs and wakes workers, in one step.
-- KEYS  1 the queue (sorted set: job id -> due time in ms)   2 the wake list
-- ARGV  1 most wake tokens   2 ms that a job outlives its due time   then for each job: id, payload, delay in ms
-- Returns how many were new. A job id that waits or runs is refused quietly.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local bound, patience = tonumber(ARGV[1]), tonumber(ARGV[2])

local new, due = 0, 0
for i = 3, #ARGV, 3 do
  local id, delay = ARGV[i], tonumber(ARGV[i + 2])
  -- The payload lives as long as its job, so setting it is the check as well.
  if redis.call('SET', 'arq:job:' .. id, ARGV[i + 1], 'NX', 'PX', delay + patience) then
    redis.call('ZADD', KEYS[1], now + delay, id)
    new = new + 1
    if delay == 0 then due = due + 1 end
  end
end

-- One token for each job that can start; one more if any is deferred, so that one worker sets its timer anew.
local tokens = due
if new > due then tokens = tokens + 1 end
for _ = 1, math.min(tokens, bound - redis.call('LLEN', KEYS[2])) do
  redis.call('RPUSH', KEYS[2], '1')
end
return new
