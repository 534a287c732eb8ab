-- Everything that is stored, at one moment.      KEYS  1 lineage   2 standings   3 the last fencing token      ARGV  1 a fresh lineage
-- Returns lineage, token, Unix time in ms, then circuit, standing, ...
redis.call('SET', KEYS[1], ARGV[1], 'NX')  -- where nothing can be written, nothing is read: no decision would come, so nodes decide alone
local time = redis.call('TIME')
local whole = { redis.call('GET', KEYS[1]), redis.call('GET', KEYS[3]) or '0', time[1] * 1000 + math.floor(time[2] / 1000) }
for _, each in ipairs(redis.call('HGETALL', KEYS[2])) do whole[#whole + 1] = each end
return whole
