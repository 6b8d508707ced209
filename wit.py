import sys; sys.path.insert(0,"/tmp/exp")
from pathlib import Path

import numpy as np
from ev import load, psnr

import mirl.engine.tone as tone
from mirl.engine.haze import amount_of_haze
from mirl.engine.tone import Split
from mirl.ticket import read_ticket

HS=[read_ticket(Path(f"/tmp/exp/{n}.mirl")).haze_head for n in ("small","small3")]
def shift(d,B=32):
    h,w=d.shape[0]//B*B,d.shape[1]//B*B
    return np.abs(d[:h,:w].reshape(h//B,B,w//B,B,3).mean((1,3))).max()*255
for s,every in (("tone",1),("haze",1),("dehaze",1)):
    out={}
    for n,x,r,c in load("/../exp/w-128-16" if False else "w-128-16",s,every):
        hs=[amount_of_haze(x,H) for H in HS]
        if s=="tone" and not any(hs): continue
        S=Split(x,x+r,128); pr=np.concatenate([S._products(x[b],(x+r)[b],b.start) for b in tone._bands(len(x))]); p,q,v=np.split(pr,3,axis=2)
        C=p.sum()/np.sqrt(q.sum()*v.sum()); W=float(np.clip((C-.25)/.2,0,1)); N=S.rest(x,x+r,0); Hz=S.haze(x,0)
        for i,h in enumerate(hs):
            for k,g in (("head",h),("head*W",h*W)):
                y=np.clip(x+N+g*Hz,0,1); out.setdefault((i,k),[]).append((shift(y-x) if c is None else psnr(y,c),n,round(h,2),round(W,2)))
    for k,v in out.items():
        a=np.array([z[0] for z in v]); print(s,k,"mean %.2f median %.1f >4 %d >10 %d"%(a.mean(),np.median(a),(a>4).sum(),(a>10).sum()),[(z[1],z[2],z[3],"%.1f"%z[0]) for z in v] if s=="tone" else "",flush=True)
