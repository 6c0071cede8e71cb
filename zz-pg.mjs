import {startPostgres} from '/work/wt/adv/test/support/postgresql.ts';
const pg=await startPostgres(f=>process.on('SIGTERM',async()=>{await f();process.exit()}));
console.log(pg.database()); setInterval(()=>{},1e6);
